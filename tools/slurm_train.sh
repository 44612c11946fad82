#!/usr/bin/env bash
# Trains under SLURM:
#
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
#
# GPUS is the number of processes; GPUS_PER_NODE=0 asks for none and runs GPUS processes
# on CPUs. PYTHON chooses the interpreter, PORT the port of the first machine (by default
# one that depends on the job).
#
# If a signal stops a batch job, the job is requeued; with --resume among the options it
# continues until the run is done. Let SLURM send the signal before the time limit:
#
#   sbatch --requeue --signal=USR1@120 --ntasks=8 ... --wrap \
#       'tools/slurm_train.sh PARTITION JOB_NAME CONFIG --resume'
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [options of tools/train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
shift 3

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
COMMAND=(srun --partition="$PARTITION" --job-name="$JOB_NAME"
    --ntasks="$GPUS" ${RESOURCES[@]+"${RESOURCES[@]}"}
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1
    ${SRUN_ARGS:-}
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py"
    "$CONFIG" --launcher slurm "$@")
if [ -z "${SLURM_JOB_ID:-}" ]; then
    exec "${COMMAND[@]}"
fi

# The training processes handle the signals; this shell waits for them.
trap : TERM USR1
STATUS=0
"${COMMAND[@]}" || STATUS=$?
# Exit code of a run that a signal stopped, after its checkpoint was saved.
if [ "$STATUS" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID" ||
        echo "job $SLURM_JOB_ID could not be requeued: start it again with --resume" >&2
fi
exit "$STATUS"
