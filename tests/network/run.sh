#!/usr/bin/env bash
# Tests tools/dist_train.sh on two hosts, which are two network namespaces of this machine
# (as root, with Debian's iproute2; 3 minutes):
#
#   bash tests/network/run.sh
#
# One host loses its network during the run: both must end within the timeout, with an
# error that says what happened. With the network restored, the run resumes and ends with
# the weights of an uninterrupted run.
#
# WORK=  output folder (default: work_dirs/network); it is emptied.
# PYTHON=  interpreter (default: python).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
WORK="$(mkdir -p "${WORK:-work_dirs/network}" && cd "${WORK:-work_dirs/network}" && pwd)"
PYTHON="$(command -v "${PYTHON:-python}")"
export PYTHON OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=''
CONFIG=tests/slurm/mini.py
LIMIT=20 # seconds, env_cfg.dist_cfg.timeout
GRACE=30 # seconds to start and end processes
STARTED=$SECONDS

say() { echo "[$((SECONDS - STARTED)) s] $*"; }

fail() {
  echo "error: $*; see $WORK" >&2
  exit 1
}

remove_hosts() {
  local host
  for host in mmsam2-a mmsam2-b; do
    ip netns pids "$host" 2> /dev/null | xargs --no-run-if-empty kill -KILL || true
    ip netns delete "$host" 2> /dev/null || true
  done
}

make_hosts() {
  local host address
  ip netns add mmsam2-a
  ip netns add mmsam2-b
  ip link add cable netns mmsam2-a type veth peer name cable netns mmsam2-b
  for host in a b; do
    address="10.77.0.$([[ $host == a ]] && echo 1 || echo 2)"
    ip -n "mmsam2-$host" address add "$address/24" dev cable
    ip -n "mmsam2-$host" link set cable up
    ip -n "mmsam2-$host" link set lo up
  done
}

# start HOST RANK WORK_DIR: the command of a host.
start() {
  NNODES=2 NODE_RANK="$2" MASTER_ADDR=10.77.0.1 PORT=29577 GLOO_SOCKET_IFNAME=cable \
    ip netns exec "mmsam2-$1" tools/dist_train.sh "$CONFIG" 1 --work-dir "$3" --resume \
    --cfg-options "data_root=$WORK/clips" env_cfg.dist_cfg.timeout=$LIMIT \
    default_hooks.checkpoint.interval=2 >> "$3.$1.log" 2>&1
}

train() { # on both hosts, to the end
  start b 1 "$1" &
  local other=$!
  start a 0 "$1" || fail "host a could not train"
  wait "$other" || fail "host b could not train"
}

has_trained() { cat "$1"/*_*/*.log 2> /dev/null | grep -q "Epoch(train) \[$2\]\[3/"; }

((EUID == 0)) || fail "network namespaces need root"
find "$WORK" -mindepth 1 -delete
remove_hosts
trap remove_hosts EXIT
make_hosts

say 'generating clips'
"$PYTHON" tools/dataset_converters/make_synthetic_clips.py "$WORK/clips" --size 64 \
  --num-clips 24 --num-val-clips 3 --num-frames 8 > "$WORK/clips.log"

say 'the uninterrupted run on two hosts'
train "$WORK/whole"

say 'the interrupted run'
run="$WORK/disturbed"
start a 0 "$run" &
a=$!
start b 1 "$run" &
b=$!
for _ in $(seq 240); do
  has_trained "$run" 4 && break
  sleep 0.25
done
has_trained "$run" 4 || fail 'no step was taken'

say 'disconnecting host b'
ip -n mmsam2-b link set cable down
pulled=$SECONDS
while kill -0 "$a" 2> /dev/null || kill -0 "$b" 2> /dev/null; do
  ((SECONDS - pulled < LIMIT + GRACE)) || fail 'the hosts do not end'
  sleep 0.5
done
codes=()
for pid in "$a" "$b"; do
  status=0
  wait "$pid" || status=$?
  codes+=("$status")
done
took=$((SECONDS - pulled))
say "both hosts ended $took s later with exit codes ${codes[*]} (timeout: $LIMIT s)"
[[ "${codes[*]}" == '1 1' ]] || fail 'they should end with exit code 1'
for host in a b; do
  grep -m1 'lost contact with the others' "$run.$host.log" | cut -c1-160 ||
    fail "host $host does not report the lost process"
done

say 'reconnecting it, and running the same command again'
ip -n mmsam2-b link set cable up
train "$run"
grep -h 'resumed epoch' "$run"/*_*/*.log | sed 's/.* - /  /'
say "$("$PYTHON" tests/slurm/compare.py "$(cat "$WORK/whole/last_checkpoint")" \
  "$(cat "$run/last_checkpoint")")"
say 'network: passed'
