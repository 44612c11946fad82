#!/usr/bin/env bash
# Sets up the environment and builds the documentation; any warning is an error.
#
#   bash tools/build_docs.sh                 the site, in work_dirs/docs/html
#   bash tools/build_docs.sh -b linkcheck    another builder of Sphinx, here one that
#                                            opens every external link
#
# PYTHON=, VENV=, TORCH_INDEX_URL=  as in tools/setup_env.sh
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/setup_env.sh
source tools/setup_env.sh docs

builder=html
if [[ "${1:-}" == -b ]]; then
  builder="${2:?-b takes the name of a builder, such as linkcheck}"
  shift 2
fi
output="work_dirs/docs/$builder"
say "building $output"
python -m sphinx -b "$builder" -W --keep-going -q \
  -d work_dirs/docs/doctrees docs "$output" "$@"
if [[ "$builder" == html ]]; then
  say "docs: open $output/index.html"
else
  say "docs: $output"
fi
