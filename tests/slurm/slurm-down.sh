#!/usr/bin/env bash
# Stop what slurm-up.sh started, and remove its folder: slurm-down.sh FOLDER
set -euo pipefail

state=$1

# The process that a pid file names, if it is that program still.
stop() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$2" ]] || return 0
    kill "$pid"
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid"
}

[[ -d $state/controller ]] || { echo "$state is not a folder of slurm-up.sh" >&2; exit 1; }
# Jobs first: their processes would outlive the daemons.
if scancel --signal=KILL --full --user=root 2>/dev/null; then
    for _ in $(seq 100); do
        [[ -n $(squeue --noheader 2>/dev/null) ]] || break
        sleep 0.1
    done
fi
stop "$state/slurmd.pid" slurmd
stop "$state/slurmctld.pid" slurmctld
stop "$state/munge/pid" munged
for link in /etc/slurm/{slurm,gres}.conf; do
    [[ $(readlink "$link") != "$state"/* ]] || rm "$link"
done
rm -rf "$state"
