#!/usr/bin/env bash
# Trains with one process per GPU (without GPUs: GPUS processes on the CPU):
#
#   tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
#
# On several machines, run it on each one with the same NNODES, MASTER_ADDR and PORT, and
# with NODE_RANK=0, 1, ... PYTHON is the interpreter.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
shift 2

exec "${PYTHON:-python}" "$(dirname "$0")/launch.py" \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --nproc-per-node="$GPUS" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
