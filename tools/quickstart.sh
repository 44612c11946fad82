#!/usr/bin/env bash
# The whole job once, on a CPU: sets up the environment, makes clips, trains a small
# SAM 2.1 from random weights in two processes, and scores it before and after, and
# with its memory bank emptied.
#
#   bash tools/quickstart.sh [--cfg-options key=value ...]
#
# PYTHON=, VENV=, TORCH_INDEX_URL=  as in tools/setup_env.sh
# WORK_DIR=                         place of logs and checkpoints
#                                   (default: work_dirs/quickstart)
# Called again, it goes on where it was interrupted; once it is done, it only scores
# again. Remove WORK_DIR to train anew.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/setup_env.sh
source tools/setup_env.sh runtime

config=configs/sam2_mini_synthetic.py
work_dir="${WORK_DIR:-work_dirs/quickstart}"
mkdir -p "$work_dir"
# nproc would say how many threads OMP_NUM_THREADS allows, not how many cores there are.
processes=$(( $(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) < 2 ? 1 : 2 ))
# Two processes of one thread each train on twice the clips in the time of one process
# of two threads, whose threads wait for each other on a busy machine.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Each process would ask for a GPU of its own; the figures are those of a CPU.
export CUDA_VISIBLE_DEVICES=
# A free port: another run may hold the usual one.
PORT="${PORT:-$(python -c 'import socket
print(socket.create_server(("", 0)).getsockname()[1])')}"

say 'making clips in data/synthetic'
python tools/dataset_converters/make_synthetic_clips.py data/synthetic \
  --workers "$processes"

say "training $config in $processes process(es); progress is in $work_dir/train.log too"
set_up=$((SECONDS - STARTED))
PORT="$PORT" PYTHON=python bash tools/dist_train.sh "$config" "$processes" \
  --work-dir "$work_dir" --resume auto "$@" 2>&1 | tee -a "$work_dir/train.log" ||
  fail "training failed (see above); it goes on from the last checkpoint when called" \
    "again. Remove $work_dir to begin anew, after a change of the config for one"

say 'scoring before and after training, without memory, and the copy of the first masks'
python tools/quickstart_report.py "$config" --work-dir "$work_dir" "$@" \
  > "$work_dir/report.log" 2>&1 || {
  tail -n 20 "$work_dir/report.log" >&2
  fail "scoring failed; all of its output is in $work_dir/report.log"
}
sed -n '/^ *J  *F  *J&F$/,$p' "$work_dir/report.log"

say "quickstart done: $set_up s for set-up and clips," \
  "$((SECONDS - STARTED - set_up)) s for training and scoring"
echo "  curves: $VENV/bin/tensorboard --logdir $work_dir"
