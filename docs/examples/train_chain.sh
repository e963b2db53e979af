#!/bin/bash
# Train for longer than one job may take: each job resumes the run, and submits the next one until it is finished.
#
#   sbatch docs/examples/train_chain.sh my_run.yaml [KEY=VALUE ...]
#
#SBATCH --job-name=fourcaster
#SBATCH --time=4:00:00
#SBATCH --cpus-per-task=8
#SBATCH --gpus=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -uo pipefail

MOST_JOBS=${MOST_JOBS:-50}   # of a chain, in case it makes no progress
JOB=${CHAIN_JOB:-1}
SCRIPT=${CHAIN_SCRIPT:-$(readlink -f "$0")}  # Slurm runs a copy of it; its own path is passed on

# Ten minutes less than the job may take. exec lets signals of Slurm reach the command.
srun bash -c 'exec forecast train "$@" --time-limit 3:50:00' train "$@"
code=$?

case $code in
    0)
        echo "training has finished"
        ;;
    75)
        if [ "$JOB" -ge "$MOST_JOBS" ]; then
            echo "not finished after $MOST_JOBS jobs; see the log, and submit again" >&2
            exit 1
        fi
        sbatch --export=ALL,CHAIN_JOB=$((JOB + 1)),CHAIN_SCRIPT="$SCRIPT" "$SCRIPT" "$@"
        ;;
    *)
        echo "training ended with exit code $code; the chain stops here" >&2
        exit "$code"
        ;;
esac
