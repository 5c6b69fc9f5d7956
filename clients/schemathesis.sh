#!/usr/bin/env bash
# schemathesis with docs/openapi.yaml against this server: whatever it sends is
# answered, with no 5xx but 503 and with what the file describes; afterwards as
# many goroutines and files are open as before. What a schema cannot say, such as
# that a turn must be one that an agent has, it takes for refused without need:
# that one check is left out.
# It needs python3 with pip, curl, and `make build`. Everything is written to a new
# folder, which is removed at the end.
#
#   clients/schemathesis.sh [OPTION...]     further options of `schemathesis run`
#
#   MNEME_BIN     the program               bin/mneme
#   MNEME_MODEL   a file or an alias        smollm2
#   PORT          where the server listens  18930
#   EXAMPLES      of each operation         50
#   SECONDS_MAX   that it may take          300
#   SCHEMATHESIS  the program               installed by pip
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "${MNEME_BIN:-$here/../bin/mneme}")
model=${MNEME_MODEL:-smollm2}
url=http://127.0.0.1:${PORT:-18930}
unset "${!MNEME_@}" # the program would read them too

work=$(mktemp -d)
served=
cleanup() {
  status=$?
  [ -z "$served" ] || kill "$served" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT

schemathesis=${SCHEMATHESIS:-}
if [ -z "$schemathesis" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check schemathesis
  schemathesis=$work/venv/bin/schemathesis
fi

nice "$bin" serve --model "$model" --addr "${url#http://}" --data "$work/data" --context 256 --kv-memory 256MiB --log-format json >"$work/serve.log" 2>&1 &
served=$!
for _ in $(seq 600); do
  if curl -sf "$url/readyz" >/dev/null; then break; fi
  kill -0 "$served"
  sleep 0.2
done

# state is what must not grow once connections have ended: goroutines, open files,
# turns; and the memory, which is for KV.
state() {
  sleep 3
  curl -s "$url/metrics" | awk '/^(go_goroutines|process_open_fds|mneme_requests_running) / { printf "%d ", $2 }'
  awk '/VmRSS/ { print $2 }' "/proc/$served/status"
}

# An agent that fills a block, so that the files of the store are open.
long=$(printf 'river %.0s' $(seq 150))
curl -sf "$url/v1/chat/completions" -H 'X-Agent-ID: first' -d "{\"max_tokens\":8,\"messages\":[{\"role\":\"user\",\"content\":\"$long\"}]}" >/dev/null
before=$(state)
failed=
(cd "$work" && "$schemathesis" run "$here/../docs/openapi.yaml" --url "$url" --max-examples "${EXAMPLES:-50}" --max-time "${SECONDS_MAX:-300}" --request-timeout 60 \
  --checks all --exclude-checks positive_data_acceptance --continue-on-failure --no-color "$@") || failed=1
after=$(state)
echo "goroutines, turns, open files, KiB of memory: before $before, after $after"
read -r -a was <<<"$before"
read -r -a is <<<"$after"
may=(1 0 0) # a goroutine comes and goes: the clock of the tokenizer's regular expressions
for i in 0 1 2; do
  if ((is[i] > was[i] + may[i])); then
    echo "a leak" >&2
    failed=1
  fi
done
grep -o '"status":5[0-9]*' "$work/serve.log" | sort | uniq -c || true
if grep -q '"status":50[0-24-9]' "$work/serve.log"; then failed=1; fi
[ -z "$failed" ]
