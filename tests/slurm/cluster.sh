#!/usr/bin/env bash
# A SLURM cluster on one machine for tests: munge, controller and node daemon, with all
# files in one folder. Needs root and Debian's packages:
#
#   apt-get install -y --no-install-recommends slurm-wlm munge
#
#   bash tests/slurm/cluster.sh up      starts the daemons that are not running
#   bash tests/slurm/cluster.sh down    cancels all jobs, stops the daemons, removes the folder
#   eval "$(bash tests/slurm/cluster.sh env)"   sets the environment of SLURM's commands
#
# CLUSTER=  folder (default: /tmp/mmsam2-slurm). Jobs of partition `high` preempt those of
# partition `low`: these get SIGTERM, a minute later SIGKILL, and are requeued.
set -euo pipefail

CLUSTER="${CLUSTER:-/tmp/mmsam2-slurm}"
export SLURM_CONF="$CLUSTER/slurm.conf"
SOCKET="$CLUSTER/munge/socket"

fail() {
  echo "error: $*" >&2
  exit 1
}

runs() { [[ -f "$1" ]] && kill -0 "$(cat "$1")" 2> /dev/null; }

# Waits for a command to succeed, up to 30 seconds.
await() {
  for _ in $(seq 60); do
    "$@" > /dev/null 2>&1 && return
    sleep 0.5
  done
  fail "'$*' does not succeed; see the logs in $CLUSTER"
}

configure() {
  local host
  host="$(hostname -s)"
  # The node may claim more cores than it has: only the order of events is tested.
  # A requeued job waits until its old credential has expired, hence the short one.
  cat > "$SLURM_CONF" << CONF
ClusterName=mmsam2
SlurmctldHost=$host
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$SOCKET,cred_expire=10
CredType=cred/munge
StateSaveLocation=$CLUSTER/controller
SlurmdSpoolDir=$CLUSTER/node
SlurmctldPidFile=$CLUSTER/slurmctld.pid
SlurmdPidFile=$CLUSTER/slurmd.pid
SlurmctldLogFile=$CLUSTER/slurmctld.log
SlurmdLogFile=$CLUSTER/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=60
MinJobAge=3600
SchedulerParameters=sched_interval=2,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host CPUs=4 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES PriorityTier=1 GraceTime=60 MaxTime=60 State=UP
PartitionName=high Nodes=$host PriorityTier=2 PreemptMode=OFF MaxTime=60 State=UP
CONF
}

start_munge() {
  local folder="$CLUSTER/munge"
  runs "$folder/pid" && return
  mkdir -p "$folder"
  chmod 755 "$CLUSTER" "$folder"
  [[ -s "$folder/key" ]] || (umask 077 && head -c 1024 /dev/urandom > "$folder/key")
  chown -R munge "$folder"
  # Not the daemon of this machine, which may be running already.
  runuser -u munge -- "$(command -v munged)" --key-file="$folder/key" \
    --socket="$SOCKET" --pid-file="$folder/pid" --log-file="$folder/log" \
    --seed-file="$folder/seed"
  await munge --socket="$SOCKET" -n
}

up() {
  ((EUID == 0)) || fail "SLURM's daemons need root"
  for program in munged slurmctld slurmd sbatch; do
    command -v "$program" > /dev/null || fail "$program is not there;" \
      "apt-get install -y --no-install-recommends slurm-wlm munge"
  done
  mkdir -p "$CLUSTER"/{controller,node}
  start_munge
  runs "$CLUSTER/slurmctld.pid" || { configure && slurmctld; }
  await scontrol ping
  runs "$CLUSTER/slurmd.pid" || slurmd
  # Another one would occupy the port.
  await runs "$CLUSTER/slurmd.pid"
  await eval 'sinfo --noheader --partition=low --format=%t | grep -Eq "idle|mix|alloc"'
  sinfo
}

down() {
  if runs "$CLUSTER/slurmctld.pid"; then
    scancel --user=root > /dev/null 2>&1 || true
    scancel --signal=KILL --user=root > /dev/null 2>&1 || true
  fi
  local name
  for name in slurmd slurmctld munge/; do
    local file="$CLUSTER/${name%/}.pid"
    [[ "$name" == munge/ ]] && file="$CLUSTER/munge/pid"
    runs "$file" || continue
    local pid
    pid="$(cat "$file")"
    kill "$pid"
    for _ in $(seq 40); do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.25
    done
  done
  rm -rf "$CLUSTER"
}

case "${1:-}" in
  up | down) "$1" ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  *) fail "usage: $0 up | down | env" ;;
esac
