#!/usr/bin/env bash
# Builds the page of the demo into projects/sam2/webdemo/static, after its checks.
# With --check: builds into a temporary folder and compares it with what is committed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../projects/sam2/webdemo/frontend"

case "${1:-}" in
  '' | --check) ;;
  *)
    echo "usage: tools/build_demo.sh [--check]" >&2
    exit 2
    ;;
esac
version=$(node --version 2>/dev/null | tr -d v) || true
if [[ -z "$version" ]]; then
  echo "The page of the demo is built with node 20.19 or newer: install nodejs and npm." >&2
  exit 1
fi
if ! printf '20.19.0\n%s\n' "$version" | sort --check=quiet --version-sort; then
  echo "The page of the demo needs node 20.19 or newer, and this is $version: update nodejs." >&2
  exit 1
fi

# `npm ci` of npm 11 refuses a lock file without an optional package of Vite for Windows,
# which not every registry has; this installs what the lock file says as well.
npm install --no-save --no-audit --no-fund
npm run --silent check
npm run --silent test
if [[ "${1:-}" != --check ]]; then
  npm run --silent build
  exit
fi
built=$(mktemp --directory)
trap 'rm -r "$built"' EXIT
MMSAM2_STATIC="$built/static" npm run --silent build
if ! diff --recursive --brief ../static "$built/static"; then
  echo "The built page differs from its source: run tools/build_demo.sh and commit static/." >&2
  exit 1
fi
echo "The built page is that of its source."
