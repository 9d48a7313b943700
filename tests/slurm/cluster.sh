#!/bin/bash
# A SLURM cluster of four nodes on this one machine, as root, without systemd and cgroups:
#   cluster.sh run COMMAND...    start it in a temporary folder, run COMMAND, stop it; the exit status is COMMAND's
#   cluster.sh up FOLDER         start it; then: export SLURM_CONF=FOLDER/slurm.conf
#   cluster.sh down FOLDER       stop it
# Partitions: `main`, and `low`, whose jobs are requeued as soon as `main` wants their nodes.  It claims 4 processors a node,
# however many there are.  Needs the Debian packages slurm-wlm slurm-client munge libpmi2-0.
set -euo pipefail

NODES=4

free_ports() {  # as many neighbouring ports as there are nodes, and one more
    python3 - "$NODES" <<'PYTHON'
import random, socket, sys
wanted = int(sys.argv[1]) + 1
for first in random.sample(range(20000, 32000), 1000):
    taken = [socket.socket() for _ in range(wanted)]
    try:
        for n, s in enumerate(taken):
            s.bind(('127.0.0.1', first + n))
    except OSError:
        continue
    finally:
        for s in taken:
            s.close()
    print(first)
    break
PYTHON
}

configure() {  # FOLDER PORT
    cat <<CONF
ClusterName=four
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$2
SlurmUser=root
SlurmdUser=root
# a requeued job may start again when its credential has expired: seconds in place of two minutes
AuthInfo=socket=$1/munge.socket,cred_expire=5
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool/%n
SlurmctldPidFile=$1/slurmctld.pid
SlurmdPidFile=$1/slurmd-%n.pid
SlurmctldLogFile=$1/slurmctld.log
SlurmdLogFile=$1/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
KillWait=15
# no number twice: MPICH names its shared memory after the job, and what was killed leaves it behind
FirstJobId=$((RANDOM*1000 + RANDOM%1000 + 1))
ReturnToService=2
NodeName=n[1-$NODES] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$(($2 + 1))-$(($2 + NODES))] CPUs=4 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL State=UP PriorityTier=1 PreemptMode=REQUEUE
CONF
}

up() {  # FOLDER
    local folder port nodes
    mkdir -p "$1"/{state,spool}
    folder=$(cd "$1" && pwd)
    port=$(free_ports)
    export SLURM_CONF=$folder/slurm.conf
    configure "$folder" "$port" > "$SLURM_CONF"
    (umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" --num-threads=2
    slurmctld -f "$SLURM_CONF" 2> "$folder/start.log"
    for n in $(seq "$NODES"); do
        mkdir -p "$folder/spool/n$n"
        slurmd -N "n$n" -f "$SLURM_CONF" 2>> "$folder/start.log"
    done
    for _ in {1..300}; do
        nodes=$(sinfo --noheader --Node --partition=main --format=%T 2>/dev/null | grep -c idle) || true
        [ "$nodes" = "$NODES" ] && return
        sleep 0.1
    done
    echo "cluster.sh: the nodes are not idle after 30 s" >&2
    tail -n 5 "$folder"/*.log >&2
    return 1
}

daemon() {  # PIDFILE: its process, if it is one of ours
    local pid
    [ -s "$1" ] || return 1
    pid=$(cat "$1" 2>/dev/null) || return 1
    tr '\0' ' ' 2>/dev/null < "/proc/$pid/cmdline" | grep -qE '^(munged|slurmctld|slurmd) ' && echo "$pid"
}

end() {  # PIDFILE: ask its process to end, and make it end
    local pid
    pid=$(daemon "$1") || return 0
    kill "$pid" 2>/dev/null || return 0
    for _ in {1..50}; do
        daemon "$1" >/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
}

down() {  # FOLDER
    local file
    export SLURM_CONF=$1/slurm.conf
    [ -e "$SLURM_CONF" ] || return 0
    if daemon "$1/slurmctld.pid" >/dev/null; then
        scancel --user=root --signal=KILL 2>/dev/null || true  # the tasks; then the jobs
        scancel --user=root 2>/dev/null || true
        for _ in {1..200}; do
            [ -n "$(squeue --noheader 2>/dev/null)" ] || break
            sleep 0.1
        done
    fi
    for file in "$1"/slurmd-n*.pid "$1/slurmctld.pid" "$1/munged.pid"; do
        end "$file"
    done
}

case ${1:-} in
    up) up "${2:?name a folder}" ;;
    down) down "${2:?name a folder}" ;;
    run)
        shift
        folder=$(mktemp -d)
        trap 'down "$folder"; rm -rf "$folder"' EXIT
        trap 'exit 130' INT TERM HUP
        up "$folder"
        export MPIR_CVAR_CH4_NETMOD=ofi  # README: MPI_Init of MPICH with UCX may hang
        "$@"
        ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
