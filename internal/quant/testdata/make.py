"""Makes the files beside it with the `gguf` package (0.19.0) and numpy: what other software says of the same bytes.

    python3 make.py        # seed 20 below; run once, the files are kept

types.txt     number name elements bytes, one ggml type a line
NAME.src      float32 inputs; NAME.bytes: their quantised blocks
NAME.blocks   random blocks (scales finite); NAME.values: float32 values they decode to
"""
import gguf, numpy as np
from gguf import quants, GGMLQuantizationType as T

rng = np.random.default_rng(20)
with open("types.txt", "w") as f:
    for t, (n, size) in gguf.GGML_QUANT_SIZES.items():
        if t.name == "Q8_1":
            size = 36  # the package says 40; block_q8_1 is two halves and 32 int8
        f.write(f"{int(t)} {t.name} {n} {size}\n")

def inputs(n):
    x = rng.standard_normal((n, 32)).astype(np.float32)
    x *= np.float32(10) ** rng.integers(-6, 4, (n, 1)).astype(np.float32)
    x[0] = 0
    x[1] = 3.5
    x[2] = -0.25
    x[3] = np.arange(32) - 16          # whole steps and ties
    x[4] = np.arange(32) / 2 - 7.75
    x[5] = 0
    x[5, 7] = 1e-3                     # one element alone
    return x

for t in (T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1):
    x = inputs(96)
    if t in (T.F16, T.BF16):           # special numbers, and ties in the last kept bit
        x[6] = np.resize(np.float32([np.inf, -np.inf, 65504, 65519, 65520, 2**-24, 2**-25, 1.5 * 2**-24, -0.0, 1e-45, 3e38]), 32)
        x[7] = np.float32(1) + np.arange(32).astype(np.float32) * np.float32(2**-12)
    if t == T.BF16:
        x[8, 0] = np.nan
    out = quants.quantize(x, t)
    x.tofile(f"{t.name.lower()}.src")
    out.tofile(f"{t.name.lower()}.bytes")
    blocks = rng.integers(0, 256, (96, out.shape[-1]), dtype=np.uint8)
    if t in (T.Q8_0, T.Q4_0, T.Q4_1):
        for half in range(2 if t == T.Q4_1 else 1):
            blocks[:, 2 * half + 1] &= 0xBF  # exponent below 16: finite
    if t == T.F16:
        blocks[:, 1::2] &= 0xBF
    if t == T.BF16:
        blocks[:, 1::2] &= 0xBF
    blocks.tofile(f"{t.name.lower()}.blocks")
    quants.dequantize(blocks, t).astype(np.float32).tofile(f"{t.name.lower()}.values")

# Five bits and superblocks; the package does not quantise the latter, so these have no .src and .bytes.
halves = {T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
for t, places in halves.items():
    size = gguf.GGML_QUANT_SIZES[t][1]
    if t in (T.Q5_0, T.Q5_1):
        x = inputs(96)
        x.tofile(f"{t.name.lower()}.src")
        quants.quantize(x, t).tofile(f"{t.name.lower()}.bytes")
    blocks = rng.integers(0, 256, (96 if size < 32 else 12, size), dtype=np.uint8)
    for at in places:
        blocks[:, at + 1] &= 0xBF
    blocks.tofile(f"{t.name.lower()}.blocks")
    quants.dequantize(blocks, t).astype(np.float32).tofile(f"{t.name.lower()}.values")
