#!/usr/bin/env bash
# A complete run on a CPU: sets up the environment, generates clips, trains a small SAM 2.1
# from random weights in two processes, and scores it before training, after training, and
# without its memory.
#
#   bash tools/quickstart.sh [--cfg-options key=value ...]
#
# PYTHON=, VENV=, TORCH_INDEX_URL=  as in tools/setup_env.sh
# WORK_DIR=                         folder for logs and checkpoints
#                                   (default: work_dirs/quickstart)
# Run it again to resume after an interruption; after a complete run it only scores again.
# Remove WORK_DIR to train from scratch.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/setup_env.sh
source tools/setup_env.sh runtime

config=configs/sam2_mini_synthetic.py
work_dir="${WORK_DIR:-work_dirs/quickstart}"
mkdir -p "$work_dir"
# With OMP_NUM_THREADS set, nproc prints that number instead of the number of cores.
processes=$(( $(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) < 2 ? 1 : 2 ))
# Two processes with one thread each train on twice as many clips per second as one process
# with two threads, which wait for each other on a busy machine.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Each process would need its own GPU; the published figures are for CPUs.
export CUDA_VISIBLE_DEVICES=
# Another run may use the default port.
PORT="${PORT:-$(python -c 'import socket
print(socket.create_server(("", 0)).getsockname()[1])')}"

say 'generating clips in data/synthetic'
python tools/dataset_converters/make_synthetic_clips.py data/synthetic \
  --workers "$processes"

say "training $config in $processes process(es); log: $work_dir/train.log"
set_up=$((SECONDS - STARTED))
PORT="$PORT" PYTHON=python bash tools/dist_train.sh "$config" "$processes" \
  --work-dir "$work_dir" --resume auto "$@" 2>&1 | tee -a "$work_dir/train.log" ||
  fail "training failed (see above). Run this again to resume from the last checkpoint;" \
    "remove $work_dir first to start from scratch, for example after a change of the config"

say 'scoring the model before and after training and without memory, and the copy baseline'
python tools/quickstart_report.py "$config" --work-dir "$work_dir" "$@" \
  > "$work_dir/report.log" 2>&1 || {
  tail -n 20 "$work_dir/report.log" >&2
  fail "scoring failed; its output is in $work_dir/report.log"
}
sed -n '/^ *J  *F  *J&F$/,$p' "$work_dir/report.log"

say "quickstart done: $set_up s for setup and clips," \
  "$((SECONDS - STARTED - set_up)) s for training and scoring"
echo "  curves: $VENV/bin/tensorboard --logdir $work_dir"
