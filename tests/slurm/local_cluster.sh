#!/usr/bin/env bash
# A real SLURM on this machine: four virtual nodes n1..n4 of two cores and two pretended GPUs each, job accounting, and
# two partitions, of which `high` preempts `main` with requeue. For trying sweeps, and for the tests.
#
#   tests/slurm/local_cluster.sh up [FOLDER]      then the printed line, `export SLURM_CONF=FOLDER/slurm.conf`
#   tests/slurm/local_cluster.sh down [FOLDER]
#
# Needs root and (Debian, Ubuntu): apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge slurmdbd mariadb-server
# Every daemon, its logs and its state belong to FOLDER alone; without slurmdbd and mariadb-server there is no accounting.
set -euo pipefail

ACTION=${1:-}
FOLDER=$(realpath -m "${2:-${TMPDIR:-/tmp}/xinggan-slurm}")
NODES=${NODES:-4} CPUS=${CPUS:-2} GPUS=${GPUS:-2} MEMORY_MB=${MEMORY_MB:-8000}
GRACE_S=${GRACE_S:-20}                                    # from the warning of a preemption to its kill
WARNING=${WARNING:-preempt_send_user_signal}              # `none`: SIGTERM is the only warning
DATABASE=${DATABASE:-$(type -P slurmdbd mariadbd mariadb-install-db >/dev/null && echo yes || echo no)}

refuse() { echo "local_cluster.sh: $*" >&2; exit 2; }

# wait_for SECONDS WHAT COMMAND...: until COMMAND succeeds; gives up with the logs' place.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || { echo "local_cluster.sh: $what did not come up; see $FOLDER/log" >&2; exit 1; }
        sleep 0.1
    done
}

# The first of a block of free ports, so that several clusters can stand side by side.
free_ports() {
    local first port
    for first in $(seq 16820 20 19000); do
        for port in $(seq "$first" $((first + 2 + NODES))); do
            if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
        done
        echo "$first"
        return
    done
    refuse "no free ports between 16820 and 19000"
}

# Credentials are checked by a munge daemon of the cluster's own.
start_munge() {
    install -d -o munge -g munge -m 755 "$FOLDER/munge"
    (umask 077 && head -c 128 /dev/urandom >"$FOLDER/munge/key")
    chown munge: "$FOLDER/munge/key"
    runuser -u munge -- munged --key-file="$FOLDER/munge/key" --socket="$FOLDER/munge/socket" \
        --pid-file="$FOLDER/munge/pid" --log-file="$FOLDER/munge/log" --seed-file="$FOLDER/munge/seed" --num-threads=4
    wait_for 10 munge munge -S "$FOLDER/munge/socket" -n
}

# What sacct asks: slurmdbd before a small MariaDB that listens on a socket only.
start_database() {
    local data=$FOLDER/database socket=$FOLDER/sockets/database user
    install -d -o mysql -g mysql "$data"
    mariadb-install-db --no-defaults --user=mysql --datadir="$data" --auth-root-authentication-method=socket --skip-test-db \
        >"$FOLDER/log/database_install.log" 2>&1
    install -d -o mysql -g mysql "$FOLDER/sockets"
    mariadbd --no-defaults --user=mysql --datadir="$data" --skip-networking --socket="$socket" \
        --pid-file="$data/pid" --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0 >"$FOLDER/log/database.log" 2>&1 &
    echo $! >"$FOLDER/pid/database"
    disown
    user=$(id -un)
    wait_for 30 "the database" mariadb --no-defaults -S "$socket" -e 'select 1'
    mariadb --no-defaults -S "$socket" -e "create database accounting"
    cat >"$FOLDER/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket
DbdHost=localhost
DbdPort=$((PORT + 1))
SlurmUser=$user
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=accounting
StorageUser=$user
LogFile=$FOLDER/log/slurmdbd.log
PidFile=$FOLDER/pid/slurmdbd
CONF
    chmod 600 "$FOLDER/slurmdbd.conf"
    MYSQL_UNIX_PORT=$socket SLURM_CONF=$FOLDER/slurm.conf slurmdbd
    wait_for 30 slurmdbd grep -q 'slurmdbd version .* started' "$FOLDER/log/slurmdbd.log"
}

write_configuration() {
    local host accounting=accounting_storage/none gpu
    host=$(hostname -s)
    [ "$DATABASE" = yes ] && accounting=$'accounting_storage/slurmdbd\nAccountingStorageHost=localhost\nAccountingStoragePort='$((PORT + 1))$'\nAccountingStoragePass='$FOLDER/munge/socket$'\nAccountingStorageTRES=gres/gpu'
    cat >"$FOLDER/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket,cred_expire=5
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool/%n
SlurmctldPidFile=$FOLDER/pid/slurmctld
SlurmdPidFile=$FOLDER/pid/slurmd.%n
SlurmctldLogFile=$FOLDER/log/slurmctld.log
SlurmdLogFile=$FOLDER/log/slurmd.%n.log
AccountingStorageType=$accounting
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,sched_min_interval=200000,bf_interval=5,batch_sched_delay=0,default_queue_depth=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$([ "$WARNING" = none ] || echo "SlurmctldParameters=$WARNING")
JobRequeue=1
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=120
InactiveLimit=0
KillWait=5
MinJobAge=300
MaxJobCount=${MAX_JOBS:-10000}
MaxArraySize=1001
GresTypes=gpu
NodeName=n[1-$NODES] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((PORT + 2))-$((PORT + 1 + NODES))] CPUs=$CPUS RealMemory=$MEMORY_MB Gres=gpu:$GPUS State=UNKNOWN
PartitionName=main Nodes=n[1-$NODES] Default=YES MaxTime=INFINITE DefMemPerCPU=100 PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE_S State=UP
PartitionName=high Nodes=n[1-$NODES] MaxTime=INFINITE DefMemPerCPU=100 PriorityTier=10 PreemptMode=OFF State=UP
CONF
    printf 'CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainDevices=no\n' >"$FOLDER/cgroup.conf"
    : >"$FOLDER/gres.conf"
    for ((gpu = 0; gpu < GPUS; gpu++)); do
        mknod "$FOLDER/gpu$gpu" c 1 3 # any character device does: this is another /dev/null
        echo "NodeName=n[1-$NODES] Name=gpu File=$FOLDER/gpu$gpu" >>"$FOLDER/gres.conf"
    done
}

up() {
    local program node
    [ "$(id -u)" = 0 ] || refuse "a cluster's daemons start jobs as their users: root is needed"
    for program in slurmctld slurmd sbatch munged; do
        type -P "$program" >/dev/null || refuse "$program is missing; this file's head says what to install"
    done
    if [ -e "$FOLDER/slurm.conf" ]; then refuse "there is a cluster in $FOLDER; first: tests/slurm/local_cluster.sh down $FOLDER"; fi
    mkdir -p "$FOLDER"/{state,log,pid,spool}
    chmod 755 "$FOLDER"
    runuser -u munge -- test -x "$FOLDER" || refuse "$FOLDER: every folder above it must let other users through"
    trap '[ $? = 0 ] || down' EXIT
    PORT=${PORT:-$(free_ports)}
    write_configuration
    export SLURM_CONF=$FOLDER/slurm.conf
    start_munge
    [ "$DATABASE" = yes ] && start_database
    slurmctld -c
    for ((node = 1; node <= NODES; node++)); do
        mkdir -p "$FOLDER/spool/n$node"
        slurmd -N "n$node"
    done
    wait_for 60 "the cluster of $NODES nodes" all_idle
    echo "export SLURM_CONF=$SLURM_CONF"
}

all_idle() { # the controller answers, and every node has registered
    [ "$(sinfo -h -N -p main -o %T | sort | uniq -c | tr -s ' ')" = " $NODES idle" ]
}

# Jobs are cancelled and daemons asked to leave, nodes first; FOLDER goes, except for the logs.
down() {
    local file pid
    if [ ! -e "$FOLDER/slurm.conf" ]; then refuse "there is no cluster in $FOLDER"; fi
    export SLURM_CONF=$FOLDER/slurm.conf
    timeout 10 scancel --quiet --state=PENDING --user="$(id -un)" 2>/dev/null || true
    timeout 10 scancel --quiet --signal=KILL --full --user="$(id -un)" 2>/dev/null || true
    for file in "$FOLDER"/pid/slurmd.* "$FOLDER"/pid/slurm{ctld,dbd} "$FOLDER/pid/database" "$FOLDER/munge/pid"; do
        pid=$(cat "$file" 2>/dev/null) && kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || continue 2; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    done
    find "$FOLDER" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
}

case $ACTION in
up) up ;;
down) down ;;
*) refuse "expected: tests/slurm/local_cluster.sh up|down [FOLDER]" ;;
esac
