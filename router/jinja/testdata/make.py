#!/usr/bin/env python3
"""Writes cases for the tests of this package, with the reference's answers, to standard output:

    python3 make.py table > table.jsonl              the cases of table.txt
    python3 make.py random 700 11 > random.jsonl     random templates, the same for the same seed
    python3 make.py random COUNT SEED > FILE         more of them; LOCKSTEP_JINJA_CASES=FILE go test -run Table .

It needs Python 3.11 or later and jinja2 3.1.6. Each line has a template, its variables, and a text or an error. What the
engine refuses by its name is in no case: refused_test.go has that.
"""
import datetime, json, os, random, re, signal, sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime(2026, 11, 24, 10, 30, 0).strftime(format)
    return env


ENV = environment()


class Late(Exception):
    pass


def late(*_):
    raise Late()


def case(template, variables):
    variables = {name: value for name, value in variables.items() if re.search(r"\b" + name + r"\b", template)}
    row = {"template": template, "variables": variables}
    signal.signal(signal.SIGALRM, late)
    signal.alarm(5)
    try:
        row["text"] = ENV.from_string(template).render(**variables)
        row["text"].encode()
    except Late:
        return None
    except Exception as e:
        row.pop("text", None)
        row["error"] = f"{type(e).__name__}: {e}"[:200]
    finally:
        signal.alarm(0)
    if re.search("object at 0x|str.format at 0x", row.get("text", ""), re.I):  # addresses differ from run to run
        return None
    return json.dumps(row, ensure_ascii=False)


VARIABLES = {
    "s": "Hello, World", "e": "", "u": "naïve 日本 é", "sp": "  pad\t\n", "m": "a\nb\r\nc\n\nd", "n": 7, "z": 0, "neg": -3,
    "f": 2.5, "g": 1e20, "t": True, "no": False, "nil": None, "big": 2**70, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"],
    "lm": [1, "x", None, 2.0, True], "d": {"a": 1, "b": [1, 2], "items": "it", "c d": None, "name": "N"}, "el": [], "ed": {},
    "ld": [{"n": "x", "v": 2, "k": {"q": 1}}, {"n": "Y", "v": 1, "k": {"q": 0}}, {"n": "x", "v": 3}], "q": "it's \"q\"",
    "num": "42", "hex": "0x1F", "fl": "3.75", "html": "<b>&'\"</b>", "words": "the quick brown fox-trot jumps over it",
}

CONVERSATION = {
    "messages": [
        {"role": "system", "content": " You answer in one line. "},
        {"role": "user", "content": "What's the weather in Zürich?"},
        {"role": "assistant", "content": "", "reasoning_content": "I should look it up.", "thinking": "I should look it up.",
         "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 2, "exact": True, "unit": None}}}]},
        {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "{\"temp\": 21.5, \"sky\": \"<clear>\"}"},
        {"role": "tool", "name": "clock", "content": {"hour": 9, "zones": ["CET", "UTC"]}},
        {"role": "assistant", "content": "<think>\n21.5 is mild.\n</think>\n\nMild & clear."},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, {"type": "image"}, {"type": "text", "text": " Describe it."}]},
    ],
    "tools": [
        {"type": "function", "function": {"name": "weather", "description": "Weather at a place\nfor some days", "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Name of the city"}, "days": {"type": ["integer", "null"], "default": 1},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}, "tags": {"type": "array", "items": {"type": "string"}},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}}}}, "required": ["city"]}, "return": {"type": "string"}}},
        {"type": "function", "function": {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}}},
    ],
    "documents": [{"title": "On tea", "text": "Tea is hot."}, {"title": "On ice", "text": "Ice is not.", "score": 0.25}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "enable_thinking": False,
}


def table():
    for block in open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "table.txt"), encoding="utf8").read().split("\n----\n"):
        if block.strip("\n"):
            yield block


class Random:
    """Makes templates: expressions of all kinds over VARIABLES, and statements around them."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.expressions = 0.6 if seed % 2 else 0.1  # the part of templates that are one expression

    def pick(self, *options):
        return self.r.choice(options)

    def literal(self):
        return self.pick("1", "0", "-1", "2", "3", "10", "7", "1.5", "0.1", "1e3", "2.0", "true", "false", "none",
                         "True", "None", "'abc'", '"x"', "''", "'a b'", "'é'", "'{} {}'", "','", "'\\n'", "[]", "[1, 2, 3]", "['a', 'b']",
                         "(1, 2)", "()", "(1,)", "{}", "{'a': 1}", "{1: 2, 'b': [3]}", "[[1, 2], [3, 4]]", "'It''s'", "\"it's\"", "'ABC def'", "[1.5, 2, true]",
                         "undef", "undef2", "(range(3)|list)", "(range(5, 0, -2)|list)", "['x', none, 1.0]", "namespace(a=1)", "'1.0'", "' 12 '", "'l'", "'o'")

    def atom(self, depth):
        if depth <= 0 or self.r.random() < 0.3:
            return self.literal() if self.r.random() < 0.45 else self.pick(*(name for name in VARIABLES if name not in ("big", "g")))
        return "(" + self.expression(depth - 1) + ")" if self.r.random() < 0.2 else self.pick(*(name for name in VARIABLES if name not in ("big", "g")))

    def arguments(self, depth):
        return ", ".join(self.expression(depth - 2) for _ in range(self.r.randint(0, 2)))

    def method(self, depth):
        a = lambda: self.expression(depth - 2)
        return self.pick(
            ".upper()", ".lower()", ".title()", ".capitalize()", ".strip()", ".lstrip()", ".rstrip()", f".strip({a()})", ".split()",
            f".split({a()})", f".split({a()}, 1)", ".rsplit(' ', 1)", ".split(none, 1)", ".splitlines()", ".splitlines(true)", f".replace({a()}, {a()})",
            f".replace({a()}, {a()}, 1)", f".startswith({a()})", f".endswith({a()})", f".startswith(('H', 'a'))", f".find({a()})",
            f".join({a()})", f".removeprefix({a()})",
            f".removesuffix({a()})", f".format({a()}, {a()})", ".items()", ".keys()", ".values()", f".get({a()})", f".get({a()}, {a()})",
            ".append(1)", ".pop()", ".update({})", ".a", ".b", ".items", ".n", ".name", ".__class__", "._x", ".format")

    def subscript(self, depth):
        i = lambda: self.pick("", "0", "1", "2", "-1", "-2", "n", "5", "none", "-9")
        return self.pick(f"[{self.pick('0', '1', '-1', '5', 'n')}]", f"[{i()}:{i()}]", f"[{i()}:{i()}:{self.pick('1', '-1', '2', '-2', '')}]", "['a']", "['items']", "[:]", "[::-1]",
                         f"[{self.expression(depth - 2)}]", "['upper']", ".0", ".1")

    def filter(self, depth):
        a = lambda: self.expression(depth - 2)
        return "|" + self.pick(
            "abs", "capitalize", "count", "default", f"default({a()})", f"default({a()}, true)", "d('x', boolean=true)", "dictsort", "dictsort(by='value')",
            "dictsort(reverse=true)", "dictsort(true)", "first", "float", f"float({a()})", "indent", "indent(2)", "indent(2, true)", "indent(width='>> ', blank=true)", "int", f"int({a()})",
            "int(default=5)", "join", f"join({a()})", "join(', ', attribute='n')", "join('-', 'v')", "last", "length", "list", "lower", "items|list", "map('upper')|list",
            "map(attribute='n')|list", "map(attribute='k.q', default='?')|list", "map('int')|list", "map('string')|list", "map('default', 'x')|join('/')", "map('length')|list", f"map({a()})|list", "max", "min", "max(attribute='v')", "min(case_sensitive=true)",
            "reject|list", "reject('odd')|list", "reject('none')|list", "rejectattr('k')|list", "rejectattr('v', 'gt', 1)|list", f"replace({a()}, {a()})", f"replace('l', 'L', 1)",
            "reverse", "reverse|list", "safe", "select|list", "select('string')|list", "select('even')|list",
            "selectattr('n')|list", "selectattr('n', 'equalto', 'x')|list", "selectattr('v', '>=', 2)|map(attribute='n')|list", "selectattr('k', 'defined')|list|length", "sort", "sort(reverse=true)", "sort(attribute='v')",
"sort(case_sensitive=true)", "string", "title", "tojson", "tojson(indent=2)", "tojson(separators=(',', ':'))",
            "tojson(sort_keys=true)", "tojson(ensure_ascii=true)", "tojson(indent=4, sort_keys=true)", "trim", f"trim({a()})", "unique|list",
            "unique(true)|list", "unique(attribute='n')|list", "upper", "first|upper", "list|last", "string|length")

    def test(self, depth):
        a = lambda: self.expression(depth - 2)
        return " is " + self.pick("", "", "not ") + self.pick(
            "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence", "iterable", "odd", "even",
            "divisibleby 2", "divisibleby(3)", f"eq({a()})", f"ne({a()})", f"gt({a()})", f"in({a()})", "in [1, 7, 'abc']", "sameas none", "sameas true", "equalto 7",
            f"lessthan({a()})", "ge 2", "== 1" if self.r.random() < 0.02 else "le 3")

    def postfixed(self, depth):
        value = self.atom(depth)
        for _ in range(self.r.choice([0, 0, 1, 1, 2])):
            kind = self.r.random()
            value += self.method(depth) if kind < 0.3 else self.subscript(depth) if kind < 0.5 and (value in VARIABLES or value[0] == "[") else self.filter(depth) if kind < 0.9 else ""
            if kind >= 0.9:
                return value + self.test(depth)
        return value

    def expression(self, depth=3):
        if depth <= 0:
            return self.atom(0)
        k = self.r.random()
        e = lambda: self.expression(depth - 1)
        if k < 0.40:
            return self.postfixed(depth)
        if k < 0.62:
            return e() + " " + self.pick("+", "-", "*", "/", "~", "+", "~", "~", "+", "*") + " " + e()
        if k < 0.66:
            return self.pick("n", "7", "11", "neg", "-2", "t") + self.pick(" % ", " // ") + self.pick("2", "-3", "3", "n", "z", "neg")
        if k < 0.76:
            return e() + " " + self.pick("==", "!=", "<", "<=", ">", ">=", "in", "not in", "==", "in") + " " + e()
        if k < 0.80:
            return self.pick("1", "n", "f", "z") + " < " + self.pick("n", "10", "f") + " " + self.pick("<", ">=", "==", "!=") + " " + e()
        if k < 0.86:
            return e() + self.pick(" and ", " or ") + e()
        if k < 0.89:
            return "not " + e()
        if k < 0.93:
            return e() + " if " + e() + (" else " + e() if self.r.random() < 0.7 else "")
        if k < 0.95:
            return "-" + self.atom(depth)
        return self.pick("[{}, {}]", "({}, {})", "{{'k': {}, 'j': {}}}", "[{}, {}]|tojson", "[{}, {}]|list").format(e(), e())

    def space(self):
        return self.pick("", "", " ", "\n", "  \n  ", "\n\n", "x", "\ty\n", " z ")

    def tag(self, body, kind="%"):
        close = {"%": "%", "{": "}", "#": "#"}[kind]
        return "{" + kind + self.pick("", "", "", "-", "+" if kind != "{" else "-") + " " + body + " " + self.pick("", "", "", "-", "+" if kind == "%" else "") + close + "}"

    def target(self):
        return self.pick("a", "b", "x", "i", "a, b", "s", "l", "ns.v", "x")

    def block(self, depth):
        if depth <= 0:
            return self.pick(self.space(), self.tag(self.expression(2), "{"), self.tag(self.pick("a", "b", "x", "i", "ns.v", "loop.index", "s"), "{"))
        body = lambda: "".join(self.block(depth - 1) for _ in range(self.r.randint(1, 3)))
        t, e = self.tag, lambda: self.expression(2)
        iterable = lambda: self.pick("l", "ls", "d", "d.items()", "ld", "range(3)", "el", "'ab'", "[1, 2, 3, 4]", "undef", "[(1, 2), (3, 4)]", "d|items", "ls|sort", "[[1, [2]], [3]]", "l|map('string')", e())
        sp = self.space
        k = self.r.randint(0, 14)
        if k <= 2:
            return t(self.expression(2), "{") + sp()
        if k == 3:
            return sp() + t("set " + self.pick("a", "b", "x", "s", "n", "ns.v", "a, b") + " = " + e()) + sp()
        if k == 4:
            return sp() + t("set ns = namespace(v=" + e() + ")") + sp()
        if k <= 7:
            more = t("else") + body() if self.r.random() < 0.3 else ""
            tail = self.pick("", "", "", " if " + self.pick("i", "i is odd", "loop is undefined", "i != 1", e()))
            inner = self.pick("", "", t("{ ".strip("{ ") + "if i == 2") + t(self.pick("break", "continue")) + t("endif"), t("loop." + self.pick("index", "index0", "first", "last", "previtem", "nextitem", *([] if tail else ["revindex", "revindex0", "length"])), "{"))
            return sp() + t("for " + self.pick("i", "i", "i", "a, b", "x") + " in " + iterable() + tail) + sp() + inner + body() + more + t("endfor") + sp()
        if k <= 9:
            more = self.pick("", t("elif " + e()) + body()) + self.pick("", t("else") + body())
            return sp() + t("if " + self.pick(e(), "a", "x is defined", "i")) + sp() + body() + more + t("endif") + sp()
        if k == 10:
            name = self.pick("f", "g")
            return t(f"macro {name}({self.pick('', 'a', 'a, b=2', 'x, a=s')})") + sp() + self.pick("", "{{ caller() if caller is defined }}") + body() + t("endmacro") + sp() + t(name + "(" + self.pick("", "1", "1, 2", "a=3", "1, 2, 3", "q=1") + ")", "{")
        if k == 11:
            return sp() + t("set " + self.pick("a", "x") + self.pick("", "|upper", "|trim|length")) + body() + t("endset") + sp()
        if k == 12:
            return t("filter " + self.pick("upper", "trim", "indent(2)", "replace('a', 'b')|upper", "length")) + body() + t("endfilter") + sp()
        if k == 13:
            return self.pick(t("# c".strip("# ") + " " + self.space(), "#"), t("generation") + body() + t("endgeneration"))
        return t(self.pick("call f(1)", "call(q) g()", "call f()", "call(q, r=2) f(q=1)")) + body() + t("endcall") + sp()

    def template(self):
        if self.r.random() < self.expressions:
            return "{{ " + self.expression(self.r.randint(1, 4)) + " }}"
        return "".join(self.block(self.r.randint(1, 3)) for _ in range(self.r.randint(1, 4)))


def main():
    if sys.argv[1] == "table":
        rows = (case(template, VARIABLES | CONVERSATION) for template in table())
    else:
        maker = Random(int(sys.argv[3]))
        rows = (case(maker.template(), VARIABLES) for _ in range(int(sys.argv[2])))
        rows = (row for row in rows if row and "not [" not in row and ('"text": ' in row or maker.r.random() < 0.2))
    for row in rows:
        if row:
            print(row)


if __name__ == "__main__":
    main()
