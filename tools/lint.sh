#!/usr/bin/env bash
# Sets up the environment, runs all lint tools and lists those that report problems.
# Their settings are in pyproject.toml.
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
  say "lint: ${#failed[@]} of 6 tools report problems: ${failed[*]}"
  echo 'Settings and reasons: pyproject.toml. ruff fixes most problems itself:'
  echo '  ruff check --fix . && ruff format .'
  exit 1
fi
say 'lint: all 6 tools pass'
