"""Compares what the harness found with what `mneme bench --perplexity` found on the
same window. Fails when they differ by more than MOST.

    python compare.py FOLDER KV_FORMAT
"""

import json
import math
import pathlib
import sys

MOST = 1e-4  # of the perplexity per token, relative

folder, form = pathlib.Path(sys.argv[1]), sys.argv[2]
found = json.loads(next(folder.glob("harness/**/results_*.json")).read_text())["results"]["fixed_text"]
text = json.loads((folder / "text.jsonl").read_text())["text"]
targets = len(json.loads((folder / "window.json").read_text())) - 1
nats = found["bits_per_byte,none"] * math.log(2) * len(text.encode())
harness = math.exp(nats / targets)
stream = json.loads((folder / "bench.json").read_text())["streams"][0]
bench = {f["format"]: f for f in stream["formats"]}[form]["perplexity"]
print(f"{targets} tokens, kv {form}: perplexity by lm-evaluation-harness {harness:.6f}, by mneme bench {bench:.6f}, apart {abs(harness / bench - 1):.1e}")
sys.exit(abs(harness / bench - 1) > MOST)
