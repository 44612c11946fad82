#!/usr/bin/env bash
# Sets up the environment and runs the tests.
#
#   bash tools/run_tests.sh                     all tests, with coverage
#   bash tools/run_tests.sh tests/losses -k iou with arguments of pytest
#
# PYTHON=, VENV=, TORCH_INDEX_URL=  as in tools/setup_env.sh
# TEST_WORKERS=      number of test processes (default: 2)
# SAM2_GOLDEN_DIR=   folder with the full set of golden numbers of the released SAM 2
# SAM2_DATA_DIR=     folder with real clips; tests without their folder are skipped
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/setup_env.sh
source tools/setup_env.sh tests

# One thread per process: the workers share the cores, and results do not depend on the
# number of threads.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
output=work_dirs/tests
log="$output/pytest.log"
mkdir -p "$output"

covered=()
if (($# == 0)); then
  covered=(--cov --cov-report= "--cov-report=xml:$output/coverage.xml")
fi
say "running the tests with ${TEST_WORKERS:-2} workers"
status=0
python -m pytest -n "${TEST_WORKERS:-2}" --dist worksteal -q -rs \
  ${covered[@]+"${covered[@]}"} "$@" 2>&1 | tee "$log" || status=$?

if ((${#covered[@]} && status == 0)); then
  for package in models losses evaluation datasets; do
    say "branch coverage of $package (at least 90%)"
    coverage report --skip-empty --include="projects/sam2/$package/*" \
      --fail-under=90 | tail -n 15 || status=$?
  done
fi

say "tests: $(grep -E '(passed|failed|error|no tests ran|skipped).* in [0-9.]+s' "$log" |
  tail -n 1 | tr -d '=')"
echo "Output: $log; coverage of a full run: $output/coverage.xml"
exit "$status"
