#!/usr/bin/env bash
# lm-evaluation-harness, unmodified, against /v1/completions: the perplexity that it
# finds on a text is the one that `mneme bench --perplexity` finds on the same tokens.
# It needs python3 with pip, curl, and `make build`. Everything is written to a new
# folder, which is removed at the end.
#
#   clients/lmeval.sh [TEXT]     docs/ARCHITECTURE.md
#
#   MNEME_BIN     the program               bin/mneme
#   MNEME_MODEL   a file of SmolLM2         that of the alias smollm2
#   PORT          where the server listens  18930
#   BYTES         of the text               6000
#   PYTHON        of an environment that has lm-eval[api], transformers and gguf
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "${MNEME_BIN:-$here/../bin/mneme}")
model=${MNEME_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/mneme/models/SmolLM2-135M-Instruct.Q4_1.gguf}
text=$(realpath "${1:-$here/../docs/ARCHITECTURE.md}")
port=${PORT:-18930}
form=q4

unset "${!MNEME_@}" # the program would read them too

work=$(mktemp -d)
served=
cleanup() {
  status=$?
  [ -z "$served" ] || kill "$served" 2>/dev/null || true
  wait 2>/dev/null || true
  if [ $status -ne 0 ]; then tail -n 20 "$work"/*.log >&2 || true; fi
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT

python=${PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv "$work/venv"
  python=$work/venv/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check 'lm-eval[api]' transformers gguf
fi

tokens=$("$python" "$here/lmeval/prepare.py" "$model" "$text" "${BYTES:-6000}" "$work")
"$bin" bench --perplexity "$work/window.json" --model "$model" --window "$tokens" --windows 1 --kv-format $form --json >"$work/bench.json"

nice "$bin" serve --model "$model" --addr "127.0.0.1:$port" --data "$work/data" --kv-format $form >"$work/serve.log" 2>&1 &
served=$!
for _ in $(seq 600); do
  if curl -sf "http://127.0.0.1:$port/readyz" >/dev/null; then break; fi
  kill -0 "$served"
  sleep 0.2
done
mkdir "$work/tasks"
sed "s|TEXT.jsonl|$work/text.jsonl|" "$here/lmeval/fixed_text.yaml" >"$work/tasks/fixed_text.yaml"
name=$(curl -s "http://127.0.0.1:$port/v1/models" | "$python" -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')
HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$work/hf "$python" -m lm_eval run --model local-completions --include_path "$work/tasks" --tasks fixed_text \
  --model_args "model=$name,base_url=http://127.0.0.1:$port/v1/completions,tokenizer_backend=huggingface,tokenizer=$work/tokenizer,num_concurrent=1,max_length=$((tokens + 8))" \
  --output_path "$work/harness" >"$work/harness.log" 2>&1
"$python" "$here/lmeval/compare.py" "$work" $form
