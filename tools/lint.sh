#!/usr/bin/env bash
# Runs every lint tool over the whole tree and names those that complain.
# Their settings are in pyproject.toml. Sets up the environment first.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/setup_env.sh
source tools/setup_env.sh tests

failed=()
check() {
  local name="$1"
  shift
  say "$name"
  "$@" || failed+=("$name")
}

check 'ruff check' ruff check --quiet .
check 'ruff format' ruff format --quiet --check .
check 'mypy' mypy
check 'import-linter' lint-imports --no-logo
check 'vulture' vulture
check 'codespell' codespell

if ((${#failed[@]})); then
  say "lint: ${#failed[@]} of 6 tools complain: ${failed[*]}"
  echo 'Settings and reasons: pyproject.toml. ruff repairs much itself:'
  echo '  ruff check --fix . && ruff format .'
  exit 1
fi
say 'lint: all 6 tools are content'
