#!/usr/bin/env bash
# A C compiler for the race detector: the machine's own, else one that pip
# brings into the project's cache.
set -euo pipefail
for own in gcc clang cc; do
  if command -v "$own" >/dev/null; then exec "$own" "$@"; fi
done
zig=$(cd "$(dirname "$0")/.." && pwd)/.cache/ziglang-0.13.0
if [ ! -d "$zig" ]; then
  mkdir -p "${zig%/*}"
  fresh=$(mktemp -d "$zig.XXXXXX")
  python3 -m pip install --quiet --disable-pip-version-check --target "$fresh" ziglang==0.13.0 >&2 \
    || { rm -rf "$fresh"; echo "no C compiler here, and pip brought none" >&2; exit 1; }
  mv -T "$fresh" "$zig" 2>/dev/null || rm -rf "$fresh" # another call was first
fi
PYTHONPATH=$zig exec python3 -m ziglang cc "$@"
