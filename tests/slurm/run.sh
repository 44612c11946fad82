#!/usr/bin/env bash
# Tests the tools on a SLURM that cluster.sh sets up (as root; 5 minutes on an idle machine):
#
#   bash tests/slurm/run.sh
#
# - A training job of two tasks is stopped by a signal, requeued by an operator and
#   preempted by a job of another partition. It resumes each time and ends with the weights
#   of an uninterrupted job.
# - tools/slurm_test.sh evaluates the result.
# - An array of jobs extracts the frames of mp4 files.
#
# WORK=  output folder (default: work_dirs/slurm); it is emptied.
# PYTHON=  interpreter (default: python). KEEP=1 leaves the cluster running.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
WORK="$(mkdir -p "${WORK:-work_dirs/slurm}" && cd "${WORK:-work_dirs/slurm}" && pwd)"
PYTHON="$(command -v "${PYTHON:-python}")"
export PYTHON OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES='' GPUS=2 GPUS_PER_NODE=0
export CPUS_PER_TASK=1
CONFIG=tests/slurm/mini.py
STARTED=$SECONDS
RUN="$WORK/disturbed"

say() { echo "[$((SECONDS - STARTED)) s] $*"; }

fail() {
  echo "error: $*; see $WORK" >&2
  exit 1
}

# await SECONDS WHAT COMMAND...
await() {
  local limit=$((SECONDS + $1)) what="$2"
  shift 2
  until "$@" > /dev/null 2>&1; do
    ((SECONDS < limit)) || fail "waited in vain for $what"
    sleep 0.5
  done
}

logged() { cat "$RUN"/*_*/*.log 2> /dev/null | grep -Eq "$1"; }
is_in_state() { scontrol show job "$1" | grep -q "JobState=$2"; }
# Number of iterations in all logs of the run; repeated ones count again.
iterations() { cat "$RUN"/*_*/*.log 2> /dev/null | grep -c 'Epoch(train)' || true; }
has_trained() { (($(iterations) >= $1)); }
restarts() { scontrol show job "$1" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p'; }
has_restarted() { (($(restarts "$1") >= $2)) && is_in_state "$1" RUNNING; }

submit() { # NAME WORK_DIR
  sbatch --parsable --requeue --open-mode=append --partition=low --job-name="$1" \
    --ntasks=2 --output="$WORK/$1.out" --wrap "tools/slurm_train.sh low $1 $CONFIG \
      --work-dir $2 --resume --cfg-options data_root=$WORK/clips"
}

if [[ -z "${KEEP:-}" ]]; then
  trap 'bash tests/slurm/cluster.sh down' EXIT
fi
bash tests/slurm/cluster.sh up
eval "$(bash tests/slurm/cluster.sh env)"
find "$WORK" -mindepth 1 -delete

say 'generating clips'
"$PYTHON" tools/dataset_converters/make_synthetic_clips.py "$WORK/clips" --size 64 \
  --num-clips 24 --num-val-clips 3 --num-frames 8 > "$WORK/clips.log"

say 'the uninterrupted job'
whole="$(submit whole "$WORK/whole")"
await 300 "the end of job $whole" is_in_state "$whole" COMPLETED

say 'the interrupted job'
job="$(submit disturbed "$RUN")"
await 120 'the first steps' has_trained 5

say "SIGUSR1 by scancel at $(iterations) iterations"
scancel --signal=USR1 "$job"
await 60 'the checkpoint' logged 'Stopped by SIGUSR1 after iteration'
await 120 'the first restart' has_restarted "$job" 1
await 120 'more steps' has_trained 15

say "scontrol requeue at $(iterations) iterations"
scontrol requeue "$job"
await 60 'the checkpoint' logged 'Stopped by SIGTERM after iteration'
await 120 'the second restart' has_restarted "$job" 2
before="$(grep -c . <(cat "$RUN"/*_*/*.log | grep 'Stopped by'))"
await 120 'more steps' has_trained 25

say "preemption by partition high at $(iterations) iterations"
srun --partition=high --ntasks=4 --job-name=urgent sleep 2
(($(cat "$RUN"/*_*/*.log | grep -c 'Stopped by') > before)) ||
  fail 'the job did not save when it was preempted'
await 120 'the third restart' has_restarted "$job" 3
await 300 "the end of job $job" is_in_state "$job" COMPLETED

grep -hE 'Stopped by|resumed epoch' "$RUN"/*_*/*.log | sed 's/.* - /  /'
last="$(cat "$WORK/whole/last_checkpoint")"
say "$("$PYTHON" tests/slurm/compare.py "$last" "$(cat "$RUN/last_checkpoint")")"

say 'evaluating with tools/slurm_test.sh'
tools/slurm_test.sh low score "$CONFIG" "$last" --work-dir "$WORK/score" \
  --cfg-options "data_root=$WORK/clips" > "$WORK/score.log" 2>&1 || fail 'no score'
grep '"J&F"' "$WORK/score.log" || fail 'no score'

say 'extracting frames of mp4 files by an array of jobs'
"$PYTHON" tests/slurm/write_mp4.py "$WORK/videos"
extract=(tools/dataset_converters/extract_sav_frames.py "$WORK/videos")
"$PYTHON" "${extract[@]}" "$WORK/frames" --jobs 3 --partition low --minutes 5 \
  --logs "$WORK/extract_logs" 2>&1 | grep -v -e sacct -e 'accounting storage'
"$PYTHON" "${extract[@]}" "$WORK/frames_here" > /dev/null
diff -r "$WORK/frames" "$WORK/frames_here" || fail 'the frames differ'
ls "$WORK"/extract_logs/*.out > /dev/null || fail 'no job of the array has run'
say 'slurm: passed'
