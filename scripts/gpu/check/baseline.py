"""What PyTorch does on the same card with the same shapes and random weights: the yardstick.

python3 baseline.py [--out FOLDER] [--tiny] [WHAT...]; without WHAT: compiled, prefill and cublas
  cublas     torch.mm per product shape: rows 1, 8, 64 (weights from ever new places, in a CUDA graph) and 512, 2048
  eager      decode, launched operation by operation: 1B and 8B, batch 1, 8, 64
  graph      the same operations in one CUDA graph
  compiled   one layer compiled by torch.compile (default mode, reused for all layers), the whole step in one CUDA graph
  reduce     torch.compile(mode="reduce-overhead", fullgraph) of the whole step, 1B only, batch 1 (long to compile)
  prefill    1B and 8B, one sequence of 512 and 2048 tokens
The cache is static, of exactly the length that a step reads (513), so attention needs no mask: this favours PyTorch.
--tiny runs the logic on a small shape, on the CPU if there is no card.
"""
import argparse
import json
import os
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = {"1B": (16, 2048, 32, 8, 64, 8192, 128256), "8B": (32, 4096, 32, 8, 128, 14336, 128256), "7B": (28, 3584, 28, 4, 128, 18944, 152064),
          "tiny": (2, 64, 4, 2, 16, 128, 256)}
args = None
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def line(text):
    print(text, flush=True)
    if args.out:
        with open(os.path.join(args.out, "report.md"), "a") as f:
            f.write(text + "\n")


def record(**values):
    if args.out:
        with open(os.path.join(args.out, "results.jsonl"), "a") as f:
            f.write(json.dumps(dict(step="baseline", **values)) + "\n")


def roof():
    try:
        with open(os.path.join(args.out, "results.jsonl")) as f:
            found = [json.loads(line) for line in f]
        return [v["readRate"] for v in found if "readRate" in v][-1] / 1e3
    except Exception:
        return 4.3 if CUDA and torch.cuda.get_device_properties(0).total_memory > 100 << 30 else 3.0


def sync():
    if CUDA:
        torch.cuda.synchronize()


def median(f, times):
    """Median seconds of f, by events on a card."""
    for _ in range(2):
        f()
    sync()
    out = []
    for _ in range(times):
        if CUDA:
            a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            a.record()
            f()
            b.record()
            sync()
            out.append(a.elapsed_time(b) / 1e3)
        else:
            t = time.perf_counter()
            f()
            out.append(time.perf_counter() - t)
    return sorted(out)[len(out) // 2]


def graphed(f):
    """f in a CUDA graph."""
    if not CUDA:
        return f
    s = torch.cuda.Stream()
    s.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(s):
        for _ in range(3):
            f()
    torch.cuda.current_stream().wait_stream(s)
    sync()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        f()
    return g.replay


def random(*shape, scale=0.0346):
    return torch.empty(*shape, dtype=torch.bfloat16, device=DEVICE).uniform_(-scale, scale)


def norm(x, w):
    return F.rms_norm(x, (x.shape[-1],), w, 1e-5)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Model:
    def __init__(self, name, batch, length):
        self.L, self.n, self.heads, self.kv, self.D, self.inner, self.vocab = SHAPES[name]
        self.batch, self.length = batch, length
        n, D = self.n, self.D
        self.layers = []
        for _ in range(self.L):
            self.layers.append(dict(n1=random(n, scale=0.1) + 1, qkv=random((self.heads + 2 * self.kv) * D, n), o=random(n, self.heads * D), n2=random(n, scale=0.1) + 1,
                                    gate=random(2 * self.inner, n), down=random(n, self.inner)))
        self.norm, self.head, self.table = random(n, scale=0.1) + 1, random(self.vocab, n), random(self.vocab, n, scale=1)
        self.caches = []
        self.make(batch)

    def make(self, batch):
        self.batch = batch
        self.caches = [(random(batch, self.kv, self.length, self.D, scale=1), random(batch, self.kv, self.length, self.D, scale=1)) for _ in range(self.L)]
        angle = torch.outer(torch.arange(max(self.length, 2048), dtype=torch.float32), 500000.0 ** (-torch.arange(0, self.D, 2, dtype=torch.float32) / self.D))
        self.cos, self.sin = angle.cos().to(DEVICE, torch.bfloat16), angle.sin().to(DEVICE, torch.bfloat16)
        self.tokens = torch.full((batch, 1), 7, dtype=torch.long, device=DEVICE)

    def bytes(self):
        n, D = self.n, self.D
        one = (self.heads + 2 * self.kv) * D * n + n * self.heads * D + 3 * self.inner * n
        return 2 * (self.L * one + self.vocab * n) + self.batch * self.length * self.kv * D * 4 * self.L


def layer(h, n1, qkv, o, n2, gate, down, kc, vc, cos, sin, heads: int, kv: int, D: int):
    """One layer of a decode step: the new position is the cache's last."""
    B = h.shape[0]
    x = F.linear(norm(h, n1), qkv)
    q, k, v = x.split([heads * D, kv * D, kv * D], dim=-1)
    q, k, v = q.view(B, 1, heads, D).transpose(1, 2), k.view(B, 1, kv, D).transpose(1, 2), v.view(B, 1, kv, D).transpose(1, 2)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    kc[:, :, -1:].copy_(k)
    vc[:, :, -1:].copy_(v)
    y = F.scaled_dot_product_attention(q, kc, vc, enable_gqa=True)
    h = h + F.linear(y.transpose(1, 2).reshape(B, 1, heads * D), o)
    a, b = F.linear(norm(h, n2), gate).chunk(2, dim=-1)
    return h + F.linear(F.silu(a) * b, down)


def decode_step(m, layer_function):
    h = F.embedding(m.tokens, m.table)
    cos, sin = m.cos[m.length - 1:m.length], m.sin[m.length - 1:m.length]
    for w, (k, v) in zip(m.layers, m.caches):
        h = layer_function(h, w["n1"], w["qkv"], w["o"], w["n2"], w["gate"], w["down"], k, v, cos, sin, m.heads, m.kv, m.D)
    logits = F.linear(norm(h, m.norm), m.head)
    m.tokens.copy_(logits[:, -1].argmax(dim=-1, keepdim=True))


def names(shapes=("1B", "8B")):
    return ("tiny",) if args.tiny else shapes


def decode(way):
    line("\n| PyTorch %s, decode: %s | batch | ms a step | tokens/s | share of the roof |\n| --- | --- | --- | --- | --- |" % (torch.__version__, way))
    f = layer
    if way == "compiled":
        torch._dynamo.config.cache_size_limit = 64
        f = torch.compile(layer, dynamic=False)
    for name in names({"reduce": ("1B",), "compiled": ("8B", "1B")}.get(way, ("1B", "8B"))):
        m = Model(name, 1, 513 if not args.tiny else 33)
        for batch in (1,) if way == "reduce" else (1, 8, 64):
            try:
                started = time.time()
                m.make(batch)
                step = lambda: decode_step(m, f)
                if way == "reduce":
                    step = torch.compile(step, mode="reduce-overhead")
                elif way != "eager":
                    if way == "compiled":
                        step()  # compiles
                        sync()
                    step = graphed(step)
                d = median(step, 11)
                share = m.bytes() / d / 1e12 / roof()
                line("| %s (ready after %.0f s) | %d | %.4g | %.4g | %.1f %% |" % (name, time.time() - started, batch, d * 1e3, batch / d, 100 * share))
                record(what="decode", way=way, model=name, batch=batch, ms=d * 1e3, tokens_s=batch / d, share=share)
            except Exception as e:  # the next batch may work
                line("| %s | %d | FAILED: %s |  |  |" % (name, batch, str(e).replace("\n", " ")[:300]))
        del m
        if CUDA:
            torch.cuda.empty_cache()


def prefill():
    line("\n| PyTorch %s, prefill of one sequence, operation by operation | tokens | ms | tokens/s | TFLOP/s of the products |\n| --- | --- | --- | --- | --- |" % torch.__version__)
    for name in names():
        m = Model(name, 1, 8)

        def run(T):
            h = F.embedding(torch.full((1, T), 7, dtype=torch.long, device=DEVICE), m.table)
            cos, sin = m.cos[:T], m.sin[:T]
            for w in m.layers:
                q, k, v = F.linear(norm(h, w["n1"]), w["qkv"]).split([m.heads * m.D, m.kv * m.D, m.kv * m.D], dim=-1)
                q, k, v = (t.view(1, T, -1, m.D).transpose(1, 2) for t in (q, k, v))
                y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True)
                h = h + F.linear(y.transpose(1, 2).reshape(1, T, m.heads * m.D), w["o"])
                a, b = F.linear(norm(h, w["n2"]), w["gate"]).chunk(2, dim=-1)
                h = h + F.linear(F.silu(a) * b, w["down"])
            return F.linear(norm(h[:, -1:], m.norm), m.head)

        for T in (512, 2048):
            d = median(lambda: run(T), 5)
            flops = 2 * T * (m.L * ((m.heads + 2 * m.kv) * m.D * m.n + m.n * m.heads * m.D + 3 * m.inner * m.n))
            line("| %s | %d | %.4g | %.4g | %.4g |" % (name, T, d * 1e3, T / d, flops / d / 1e12))
            record(what="prefill", model=name, tokens=T, ms=d * 1e3, tokens_s=T / d, tflops=flops / d / 1e12)
        del m
        if CUDA:
            torch.cuda.empty_cache()


def cublas():
    rows = (1, 8, 64, 512, 2048)
    line("\n| cuBLAS (PyTorch %s), bf16 in and out: outputs x columns | %s |\n| --- |%s" % (torch.__version__, " | ".join("rows %d" % r for r in rows), " --- |" * len(rows)))
    for name in names():
        L, n, heads, kv, D, inner, vocab = SHAPES[name]
        for what, N, K in (("qkv", (heads + 2 * kv) * D, n), ("output", n, heads * D), ("gate_up", 2 * inner, n), ("down", n, inner), ("head", vocab, n)):
            copies = max(1, min(24, (400 << 20) // (2 * N * K)))
            ws = [random(N, K) for _ in range(copies)]
            cells = []
            for r in rows:
                if what == "head" and r > 64:
                    cells.append("")
                    continue
                x = random(r, K, scale=1.7)
                y = torch.empty(r, N, dtype=torch.bfloat16, device=DEVICE)

                def run():
                    for w in ws:
                        torch.mm(x, w.t(), out=y)

                d = median(graphed(run), 5) / copies
                if r <= 64:
                    cells.append("%.4g us, %.1f %% of the read rate" % (d * 1e6, 100 * 2 * N * K / d / 1e12 / roof()))
                else:
                    cells.append("%.4g us, %.4g TFLOP/s" % (d * 1e6, 2 * r * N * K / d / 1e12))
                record(what="cublas", model=name, product=what, N=N, K=K, rows=r, us=d * 1e6, tflops=2 * r * N * K / d / 1e12, share=2 * N * K / d / 1e12 / roof())
            line("| %s %s %d x %d | %s |" % (name, what, N, K, " | ".join(cells)))
            del ws
    if CUDA and not args.tiny:
        a, b = random(8192, 8192, scale=1), random(8192, 8192, scale=1)
        d = median(lambda: torch.mm(a, b), 7)
        line("\n8192 x 8192 x 8192: %.4g TFLOP/s" % (2 * 8192**3 / d / 1e12))
        record(what="cublas 8192", tflops=2 * 8192**3 / d / 1e12)


def main():
    global args
    p = argparse.ArgumentParser()
    p.add_argument("--out", default="")
    p.add_argument("--tiny", action="store_true")
    p.add_argument("what", nargs="*", default=["compiled", "prefill", "cublas"])
    args = p.parse_args()
    if not CUDA and not args.tiny:
        line("\n**PyTorch sees no card.**")
        sys.exit(1)
    torch.manual_seed(1)
    with torch.inference_mode():
        for w in args.what:
            {"cublas": cublas, "eager": lambda: decode("eager"), "graph": lambda: decode("graph"), "compiled": lambda: decode("compiled"), "reduce": lambda: decode("reduce"), "prefill": prefill}[w]()


if __name__ == "__main__":
    main()
