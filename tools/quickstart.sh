#!/usr/bin/env bash
# A complete run on a CPU: sets up the environment, generates clips, trains a small SAM 2.1
# from random weights, and scores it before training, after training, and without its
# memory.
#
#   bash tools/quickstart.sh [--cfg-options key=value ...]
#
# MINUTES=   time for measuring, training and scoring (default: 8); the length of the
#            training is chosen to fit. A run that was started keeps its schedule.
# WORK_DIR=  folder for logs and checkpoints (default: work_dirs/quickstart)
# PYTHON=, VENV=, TORCH_INDEX_URL=  as in tools/setup_env.sh
#
# Press Ctrl-C at any time and run it again to go on from there; after a complete run it
# only scores again. Remove WORK_DIR to train from scratch.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/setup_env.sh
source tools/setup_env.sh runtime

exec python tools/quickstart.py ${MINUTES:+--minutes "$MINUTES"} \
  --work-dir "${WORK_DIR:-work_dirs/quickstart}" "$@"
