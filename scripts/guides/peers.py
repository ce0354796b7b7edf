"""Measures one engine on the work that standard input tells, and writes answers as JSON: see measure.go."""

import base64
import json
import sys
import time
import zlib

import numpy

work = json.load(sys.stdin)
size = len(work["vocabulary"])
words = (size + 31) // 32


def closed(schema):
    """Writes out what Lockstep takes for granted: what is declared is all that there is."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, dict):
            out[key] = {name: closed(s) for name, s in value.items()}
        elif key in ("enum", "const", "required"):
            out[key] = value
        else:
            out[key] = closed(value)
    if ("properties" in out or "patternProperties" in out) and "additionalProperties" not in out:
        out["additionalProperties"] = False
    if "prefixItems" in out and "items" not in out:
        out["items"] = False
    return out


class LLGuidance:
    def __init__(self):
        import llguidance
        import llguidance.numpy

        self.version = "1.9.1"
        self.matcher = llguidance.LLMatcher
        self.tokenizer = llguidance.LLTokenizer(open(work["tokenizer"]).read(), n_vocab=size, eos_token=work["ends"],
                                                slices=llguidance.LLTokenizer.json_slices())
        self.bits = llguidance.numpy.allocate_token_bitmask(1, size)
        self.pointer, self.bytes = self.bits.ctypes.data, self.bits.size * 4

    def compile(self, schema):
        text = schema["text"]
        if schema["closed"]:
            text = json.dumps(closed(json.loads(text)))
        start = time.thread_time_ns()
        grammar = self.matcher.grammar_from_json_schema(text, defaults={"whitespace_flexible": True, "coerce_one_of": True})
        self.first = self.matcher(self.tokenizer, grammar, log_level=0)
        if self.first.is_error():
            raise ValueError(self.first.get_error())
        self.now = self.first.deep_copy()
        self.fill()
        return time.thread_time_ns() - start

    def begin(self):
        self.now = self.first.deep_copy()

    def take(self, token):
        return self.now.consume_token(token)

    def fill(self):
        self.now.unsafe_compute_mask_ptr(self.pointer, self.bytes)


class XGrammar:
    def __init__(self):
        import torch
        import xgrammar

        torch.set_num_threads(1)
        self.version = "0.2.8"
        self.xgrammar = xgrammar
        vocabulary = [base64.b64decode(token) for token in work["vocabulary"]]
        info = xgrammar.TokenizerInfo(vocabulary, xgrammar.VocabType.RAW, vocab_size=size, stop_token_ids=work["ends"])
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.mask = xgrammar.allocate_token_bitmask(1, size)
        self.bits = self.mask.numpy()

    def compile(self, schema):
        start = time.thread_time_ns()
        self.compiled = self.compiler.compile_json_schema(schema["text"], any_whitespace=True, strict_mode=schema["closed"])
        self.begin()
        self.fill()
        return time.thread_time_ns() - start

    def begin(self):
        self.now = self.xgrammar.GrammarMatcher(self.compiled)

    def take(self, token):
        return self.now.accept_token(token)

    def fill(self):
        self.mask.fill_(-1)  # it is left alone where everything is allowed
        self.now.fill_next_token_bitmask(self.mask)


def walk(engine, tokens, answer):
    times, counts, sums = [], [], []
    engine.begin()
    for token in [None] + tokens:
        start = time.thread_time_ns()
        if token is not None and not engine.take(token):
            answer["lost"] += 1
            break
        engine.fill()
        times.append(time.thread_time_ns() - start)
        bits = engine.bits[0].view(numpy.uint32).copy()
        if size % 32:
            bits[-1] &= (1 << size % 32) - 1
        counts.append(int(numpy.bitwise_count(bits).sum()))
        sums.append(zlib.crc32(bits.tobytes()))
    answer["mask_ns"].append(times)
    answer["counts"].append(counts)
    answer["sums"].append(sums)


engine = {"llguidance": LLGuidance, "xgrammar": XGrammar}[sys.argv[1]]()
answers = []
for schema in work["schemas"]:
    answer = {"error": "", "compile_ns": 0, "mask_ns": [], "counts": [], "sums": [], "lost": 0}
    answers.append(answer)
    try:
        answer["compile_ns"] = engine.compile(schema)
    except Exception as error:
        answer["error"] = str(error)[:200] or repr(error)
        continue
    for tokens in schema["texts"]:
        walk(engine, tokens, answer)
json.dump({"version": engine.version, "schemas": answers}, sys.stdout)
