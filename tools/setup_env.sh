#!/usr/bin/env bash
# Creates or reuses the virtual environment and puts it first on PATH.
#
#   bash tools/setup_env.sh [runtime|tests|docs]     on its own
#   source tools/setup_env.sh runtime           from another script
#
# runtime installs what training needs; docs adds what builds the documentation; tests
# adds the test and lint tools to that.
#
# PYTHON=           interpreter of the environment (default: the first supported one of
#                   python3.11, python3.12, python3.10 and python3)
# VENV=             folder of the environment (default: .venv at the repository root)
# TORCH_INDEX_URL=  package index for torch alone (default: pip's configured index)
set -euo pipefail

TORCH_VERSION=2.13.0
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"
STARTED=$SECONDS

say() { echo "[$((SECONDS - STARTED)) s] $*"; }

fail() {
  echo "error: $*" >&2
  exit 1
}

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
    > /dev/null 2>&1
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

choose_python() {
  local candidate
  if [[ -n "${PYTHON:-}" ]]; then
    supported "$PYTHON" ||
      fail "PYTHON=$PYTHON is not a working Python 3.10, 3.11 or 3.12; set another one"
    echo "$PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3.10 python3; do
    if supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "found no Python 3.10, 3.11 or 3.12; install one or set PYTHON="
}

make_environment() {
  local interpreter
  if supported "$VENV/bin/python" && "$VENV/bin/python" -m pip --version > /dev/null 2>&1
  then
    if [[ -n "${PYTHON:-}" ]]; then
      interpreter="$(choose_python)"
      [[ "$(version_of "$VENV/bin/python")" == "$(version_of "$interpreter")" ]] ||
        fail "$VENV has Python $(version_of "$VENV/bin/python"), PYTHON=$PYTHON is" \
          "$(version_of "$interpreter"); remove $VENV or choose another with VENV="
    fi
    say "using the virtual environment $VENV"
    return
  fi
  interpreter="$(choose_python)"
  if [[ -d "$VENV" && -n "$(ls -A "$VENV")" && ! -f "$VENV/pyvenv.cfg" ]]; then
    fail "$VENV exists and is not a virtual environment; choose another folder with VENV="
  fi
  say "creating the virtual environment $VENV with $interpreter"
  "$interpreter" -m venv --clear "$VENV" ||
    fail "could not create $VENV; on Debian: apt-get install" \
      "python$(version_of "$interpreter")-venv"
}

install_packages() {
  local profile="$1" stamp="$VENV/mmsam2-$1.stamp" wanted file
  local files=(requirements.txt setup.py tools/setup_env.sh)
  files+=(${extra_files[@]+"${extra_files[@]}"})
  wanted="$(cd "$ROOT" && echo "$ROOT" && sha256sum "${files[@]}")"
  if [[ -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
    say "the packages are up to date"
    return
  fi
  rm -f "$stamp"
  say "installing torch $TORCH_VERSION from ${TORCH_INDEX_URL:-the configured index}"
  pip_install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"
  say "installing the other packages ($profile)"
  local others=(-r "$ROOT/requirements.txt")
  for file in ${extra_files[@]+"${extra_files[@]}"}; do others+=(-r "$ROOT/$file"); done
  pip_install "torch==$TORCH_VERSION" "${others[@]}"
  say "installing this project in place"
  pip_install --no-build-isolation --no-deps -e "$ROOT"
  check_packages
  echo "$wanted" > "$stamp.new"
  mv "$stamp.new" "$stamp"
}

pip_install() {
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$@" ||
    fail "pip could not install: $* (see above)"
}

check_packages() {
  "$VENV/bin/python" -c 'import torch, mmengine, mmcv' ||
    fail "torch, mmengine or mmcv does not import (see above); remove $VENV and retry"
  "$VENV/bin/python" -c 'import cv2' ||
    fail "OpenCV does not load; on Debian: apt-get install libgl1 libglib2.0-0"
}

profile="${1:-runtime}"
case "$profile" in
  runtime) extra_files=() ;;
  docs) extra_files=(requirements/docs.txt) ;;
  tests) extra_files=(requirements/tests.txt requirements/docs.txt) ;;
  *) fail "unknown profile $profile; use runtime, docs or tests" ;;
esac
make_environment
install_packages "$profile"
export PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV"
say "setup done"
