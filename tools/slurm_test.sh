#!/usr/bin/env bash
# Evaluates a checkpoint under SLURM:
#
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
#
# GPUS is the number of processes; GPUS_PER_NODE=0 asks for none and runs GPUS processes
# on CPUs. PYTHON chooses the interpreter, PORT the port of the first machine (by default
# one that depends on the job).
set -euo pipefail

if [ "$#" -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
CHECKPOINT=$4
shift 4

GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
if [ "$GPUS_PER_NODE" -gt 0 ]; then
    RESOURCES=(--gres="gpu:$GPUS_PER_NODE" --ntasks-per-node="$GPUS_PER_NODE")
else
    RESOURCES=()
fi
if [ -n "${PORT:-}" ]; then
    export MASTER_PORT=$PORT
fi

# SRUN_ARGS holds several words; bash before 4.4 takes an empty array for unset.
# shellcheck disable=SC2086
exec srun --partition="$PARTITION" --job-name="$JOB_NAME" \
    --ntasks="$GPUS" ${RESOURCES[@]+"${RESOURCES[@]}"} \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/test.py" \
    "$CONFIG" "$CHECKPOINT" --launcher slurm "$@"
