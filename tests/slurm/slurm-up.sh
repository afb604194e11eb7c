#!/usr/bin/env bash
# A real SLURM of one node on this machine, from Debian's packages, for tests: no systemd, no
# cgroups, no accounting. Everything it writes lies in one folder, to which two links in /etc/slurm
# lead, and it listens on loopback alone. Run as root; where there is a SLURM already, or none can
# be installed, it changes nothing and exits with status 3.
#
#   slurm-up.sh FOLDER      start
#   slurm-down.sh FOLDER    stop, and remove the folder
set -euo pipefail

state=$1
host=$(hostname -s)

if [[ -e /etc/slurm/slurm.conf ]]; then
    echo "there is a SLURM already: /etc/slurm/slurm.conf" >&2
    exit 3
fi
missing=()
for package in slurmctld slurmd slurm-client munge; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if ((${#missing[@]})); then
    # Installed, but not started: the daemons of this script have a configuration of their own.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        >/dev/null || exit 3
fi

mkdir -p "$state"/{controller,node,log} /etc/slurm
# Not only in SLURM_CONF: the steps of Snakemake's jobs do without it.
ln -s "$state"/{slurm,gres}.conf /etc/slurm/
# munge refuses a socket below a folder that others may write to.
install -d -o munge -g munge -m 0755 "$state/munge"
runuser -u munge -- mungekey --create --keyfile "$state/munge/key"
runuser -u munge -- munged --key-file "$state/munge/key" --socket "$state/munge/socket" \
    --pid-file "$state/munge/pid" --log-file "$state/munge/log" --seed-file "$state/munge/seed"

# The node claims more cores and memory than there may be: nothing is enforced, only counted.
cat >"$state/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$state/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/node
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.log

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
SlurmdParameters=config_overrides
MpiDefault=none
PlugStackConfig=/dev/null
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
GresTypes=gpu
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2

# Without accounting there is no sacct; squeue must remember finished jobs.
AccountingStorageType=accounting_storage/none
MinJobAge=3600

# A job of a higher tier takes the place of a lower one, which gets SIGTERM, and SIGKILL after
# GraceTime. At a time limit it is SIGKILL after KillWait.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30

NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=128000 Gres=gpu:3 State=UNKNOWN
PartitionName=DEFAULT Nodes=$host MaxTime=1-00:00:00 GraceTime=30 State=UP
PartitionName=cpu PriorityTier=1 Default=YES
PartitionName=gpu PriorityTier=1
PartitionName=urgent PriorityTier=2
END
# Three GPUs that can be asked for: SLURM wants a device for each, and any will do.
cat >"$state/gres.conf" <<END
NodeName=$host Name=gpu File=/dev/null
NodeName=$host Name=gpu File=/dev/zero
NodeName=$host Name=gpu File=/dev/full
END

slurmctld
slurmd
for _ in $(seq 60); do
    [[ $(sinfo --noheader --format=%T 2>/dev/null | sort -u) == idle ]] && exit 0
    sleep 0.5
done
tail -n 20 "$state"/log/*.log >&2
echo "SLURM did not start; its logs are above" >&2
exit 1
