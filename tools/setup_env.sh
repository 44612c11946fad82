#!/usr/bin/env bash
# Creates or reuses the virtual environment and puts it first on PATH.
#
#   bash tools/setup_env.sh [runtime|tests|docs]     on its own
#   source tools/setup_env.sh runtime           from another script
#
# runtime installs what training needs; docs adds what builds the documentation; tests
# adds the test and lint tools to that. On Debian and Ubuntu, missing system packages are
# installed if the user is root or has sudo without a password; otherwise the command that
# installs them is printed.
#
# PYTHON=           interpreter of the environment (default: the first supported one of
#                   python3.11, python3.12, python3.10 and python3)
# VENV=             folder of the environment (default: .venv at the repository root)
# TORCH_INDEX_URL=  package index for torch alone (default: PyTorch's index of CPU builds
#                   on Linux without an NVIDIA driver, if it answers; otherwise the index
#                   that pip is configured with)
set -euo pipefail

TORCH_VERSION=2.13.0
CPU_INDEX_URL=https://download.pytorch.org/whl/cpu
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"
STARTED=$SECONDS

say() { echo "[$((SECONDS - STARTED)) s] $*"; }

# shellcheck source=tools/system_packages.sh
source "$ROOT/tools/system_packages.sh"

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
    > /dev/null 2>&1
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.10 python3; do
    if supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

choose_python() {
  if [[ -n "${PYTHON:-}" ]]; then
    supported "$PYTHON" ||
      fail "PYTHON=$PYTHON is not a working Python 3.10, 3.11 or 3.12; set another one"
    echo "$PYTHON"
    return
  fi
  find_python || fail "found no Python 3.10, 3.11 or 3.12; install one or set PYTHON="
}

# The system packages that are missing, one per line: a Python with venv, and the
# libraries that OpenCV loads.
missing_packages() {
  local interpreter="${PYTHON:-}" library
  if supported "$VENV/bin/python"; then
    interpreter="$VENV/bin/python"
  elif [[ -z "$interpreter" ]] && ! interpreter="$(find_python)"; then
    command -v python3 > /dev/null || printf '%s\n' python3 python3-venv
    interpreter=false
  fi
  # Debian ships venv without ensurepip.
  if supported "$interpreter" && ! "$interpreter" -c 'import ensurepip' 2> /dev/null; then
    echo "python$(version_of "$interpreter")-venv"
  fi
  for library in libGL.so.1:libgl1 libgthread-2.0.so.0:libglib2.0-0; do
    "$interpreter" -c "import ctypes; ctypes.CDLL('${library%:*}')" 2> /dev/null ||
      echo "${library#*:}"
  done
}

install_system_packages() {
  local packages
  command -v apt-get > /dev/null || return 0
  mapfile -t packages < <(missing_packages)
  ((${#packages[@]} == 0)) || apt_install "${packages[@]}"
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
    fail "could not create $VENV (see above); the folder must be writable and Python" \
      "must have venv (on Debian: python$(version_of "$interpreter")-venv)"
}

install_packages() {
  local profile="$1" stamp="$VENV/mmsam2-$1.stamp" wanted file
  local files=(requirements.txt requirements/{core,mmdet,mmseg}.txt)
  files+=(setup.py tools/setup_env.sh)
  files+=(${extra_files[@]+"${extra_files[@]}"})
  wanted="$(cd "$ROOT" && echo "$ROOT" && sha256sum "${files[@]}")"
  if [[ -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
    say "the packages are up to date"
    return
  fi
  rm -f "$stamp"
  install_torch
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

# Without a GPU, the CPU build saves gigabytes of CUDA libraries.
install_torch() {
  if [[ -z "${TORCH_INDEX_URL:-}" && "$(uname -s)" == Linux ]] && ! has_nvidia_driver; then
    say "no NVIDIA driver: installing torch $TORCH_VERSION for the CPU from $CPU_INDEX_URL"
    # An index that a firewall blocks must not take minutes.
    if "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --timeout 15 \
      --retries 1 --index-url "$CPU_INDEX_URL" "torch==$TORCH_VERSION" > /dev/null 2>&1
    then
      return
    fi
    say "that index does not answer; TORCH_INDEX_URL= names another one"
  fi
  say "installing torch $TORCH_VERSION from ${TORCH_INDEX_URL:-the configured index}"
  pip_install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"
}

has_nvidia_driver() {
  [[ -e /proc/driver/nvidia/version || -e /dev/nvidiactl ]] ||
    command -v nvidia-smi > /dev/null
}

pip_install() {
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$@" ||
    fail "pip could not install: $* (see above)"
}

check_packages() {
  "$VENV/bin/python" -c 'import torch, mmengine, mmcv' ||
    fail "torch, mmengine or mmcv does not import (see above); remove $VENV and retry"
  "$VENV/bin/python" -c 'import cv2' ||
    fail "OpenCV does not load (see above); it needs the system libraries libGL.so.1 and" \
      "libgthread-2.0.so.0 (on Debian: libgl1 and libglib2.0-0; on Fedora: mesa-libGL" \
      "and glib2)"
}

profile="${1:-runtime}"
case "$profile" in
  runtime) extra_files=() ;;
  docs) extra_files=(requirements/docs.txt) ;;
  tests) extra_files=(requirements/tests.txt requirements/docs.txt) ;;
  *) fail "unknown profile $profile; use runtime, docs or tests" ;;
esac
install_system_packages
make_environment
install_packages "$profile"
export PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV"
say "setup done"
