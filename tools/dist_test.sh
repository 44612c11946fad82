#!/usr/bin/env bash
# Evaluates a checkpoint with one process per GPU (without GPUs: GPUS processes on the CPU):
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
#
# On several machines, run it on each one with the same NNODES, MASTER_ADDR and PORT, and
# with NODE_RANK=0, 1, ... PYTHON is the interpreter.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3

exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --nproc-per-node="$GPUS" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
