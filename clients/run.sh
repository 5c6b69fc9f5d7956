#!/usr/bin/env bash
# Real clients, unmodified, against this server: each asks, goes on, and goes on
# again after the server was killed with -9. Prints a line for each request that
# they made; fails unless every later turn had 96 % of its prompt cached.
# It needs node with npm, curl, and `make build`. Everything is written to a new
# folder, which is removed at the end.
#
#   clients/run.sh [claude] [codex] [opencode]      all three without names
#
#   MNEME_BIN     the program               bin/mneme
#   MNEME_MODEL   a file or an alias        qwen2.5-coder-0.5b in the folder of models
#   PORT          where the server listens  18930
#   PACKAGES      a folder where the clients are installed, and stay
#   RECORD        a file that gets the requests that the clients send, a line each
#   PATIENCE      seconds that a turn of a client may take    900
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "${MNEME_BIN:-$here/../bin/mneme}")
models=${XDG_CACHE_HOME:-$HOME/.cache}/mneme/models
model=${MNEME_MODEL:-$models/qwen2.5-coder-0.5b.gguf}
port=${PORT:-18930}
clients=("$@")
[ $# -gt 0 ] || clients=(claude codex opencode)
declare -A package=([claude]=@anthropic-ai/claude-code@2.1.197 [codex]=@openai/codex@0.169.0 [opencode]=opencode-ai@1.18.33)

unset "${!MNEME_@}" # the program would read them too

work=$(mktemp -d)
served=
recorder=
cleanup() {
  status=$?
  for pid in $served $recorder; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ $status -ne 0 ]; then tail -n 20 "$work"/*.log >&2 || true; fi
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT

# install brings the clients by npm, their own install scripts included.
install() {
  packages=${PACKAGES:-$work/packages}
  mkdir -p "$packages"
  [ -e "$packages/package.json" ] || echo '{"allowScripts": {"@anthropic-ai/claude-code": true, "opencode-ai": true}}' >"$packages/package.json"
  for client in "${clients[@]}"; do
    [ -e "$packages/node_modules/.bin/$client" ] || npm install --no-fund --no-audit --prefix "$packages" "${package[$client]}" >>"$work/npm.log" 2>&1
  done
}

# serve starts the server on what it had before, and waits for it.
serve() {
  nice "$bin" serve --model "$model" --addr "127.0.0.1:$port" --data "$work/data" --log-format json >>"$work/serve.log" 2>&1 &
  served=$!
  for _ in $(seq 600); do
    if curl -sf "http://127.0.0.1:$port/readyz" >/dev/null; then return; fi
    kill -0 "$served"
    sleep 0.2
  done
  return 1
}

killed() {
  kill -9 "$served"
  wait "$served" 2>/dev/null || true
  serve
}

# record stands between clients and server.
record() {
  front=$((port + 1))
  (cd "$here/sdk" && go build -o "$work/record" ./record)
  "$work/record" -addr "127.0.0.1:$front" -to "http://127.0.0.1:$port" >>"$RECORD" 2>"$work/record.log" &
  recorder=$!
}

# settings are what the clients are told: where the server is, and nothing else.
settings() {
  home=$work/home
  mkdir -p "$home/.codex" "$home/.config/opencode" "$work/project"
  told=(HOME="$home" XDG_CONFIG_HOME="$home/.config" XDG_DATA_HOME="$home/.local/share" XDG_CACHE_HOME="$home/.cache"
    ANTHROPIC_BASE_URL="http://127.0.0.1:$front" ANTHROPIC_API_KEY=sk-x CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 LOCAL_KEY=sk-x)
  cat >"$home/.codex/config.toml" <<TOML
model = "$name"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "http://127.0.0.1:$front/v1"
wire_api = "responses"
env_key = "LOCAL_KEY"
TOML
  cat >"$home/.config/opencode/opencode.json" <<JSON
{"model": "local/$name", "provider": {"local": {"npm": "@ai-sdk/openai-compatible", "name": "local",
  "options": {"baseURL": "http://127.0.0.1:$front/v1", "apiKey": "sk-x"}, "models": {"$name": {"name": "$name"}}}}}
JSON
}

# invocation TURN CLIENT is how a client takes a turn, before what is asked; the first
# begins a conversation.
invocation() {
  case $* in
    "1 claude") ask=(claude -p --model "$name") ;;
    *" claude") ask=(claude -p --continue --model "$name") ;;
    "1 codex") ask=(codex exec --skip-git-repo-check) ;;
    *" codex") ask=(codex exec resume --last --skip-git-repo-check) ;;
    "1 opencode") ask=(opencode run) ;;
    *" opencode") ask=(opencode run --continue) ;;
  esac
}

# say CLIENT TURN TEXT has a client take a turn, and prints what its requests cost.
say() {
  local client=$1 turn=$2 text=$3 began=$SECONDS before
  before=$(wc -l <"$work/serve.log")
  invocation "$turn" "$client"
  (cd "$work/project" && env "${told[@]}" PATH="$packages/node_modules/.bin:$PATH" timeout "${PATIENCE:-900}" "${ask[@]}" "$text") \
    >>"$work/$client.log" 2>&1 </dev/null || failed="$failed $client: turn $turn ended with $?;"
  tail -n "+$((before + 1))" "$work/serve.log" >"$work/turn.jsonl"
  node "$here/table.mjs" "$work/turn.jsonl" "$client" "$turn" $((SECONDS - began)) || failed="$failed $client: turn $turn is not cached;"
}

install
serve
name=$(curl -s "http://127.0.0.1:$port/v1/models" | node -e 'process.stdin.on("data", d => console.log(JSON.parse(d).data[0].id))')
front=$port
[ -z "${RECORD:-}" ] || record
settings
failed=
printf '%-9s %-5s %8s %8s %7s %8s  %s\n' client turn prompt cached share seconds agent
for client in "${clients[@]}"; do
  say "$client" 1 "Say hello."
  say "$client" 2 "Say it again."
  killed
  say "$client" 3 "And once more."
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
