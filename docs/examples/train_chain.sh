#!/bin/bash
# Train for longer than one job may take: each job resumes the run, and submits the next one until it is finished.
#
#   bash train_chain.sh my_run.yaml [KEY=VALUE ...]
#
#SBATCH --job-name=fourcaster
#SBATCH --time=4:00:00
#SBATCH --cpus-per-task=8
#SBATCH --gpus=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -uo pipefail

MOST_JOBS=${MOST_JOBS:-50}  # of a chain, in case it makes no progress

submit() {  # Slurm runs a copy of the script, so that its path is passed on
    script=$1
    job=$2
    shift 2
    sbatch --export=ALL,CHAIN_SCRIPT="$script",CHAIN_JOB="$job" "$script" "$@"
}

if [ -z "${CHAIN_SCRIPT:-}" ]; then
    submit "$(readlink -f "$0")" 1 "$@"
    exit
fi

# Ten minutes less than the job may take. exec lets signals of Slurm reach the command.
srun bash -c 'exec forecast train "$@" --time-limit 3:50:00' train "$@"
code=$?

case $code in
    0)
        echo "training has finished"
        ;;
    75)
        if [ "$CHAIN_JOB" -ge "$MOST_JOBS" ]; then
            echo "not finished after $MOST_JOBS jobs; see the log, and submit again" >&2
            exit 1
        fi
        submit "$CHAIN_SCRIPT" $((CHAIN_JOB + 1)) "$@"
        ;;
    *)
        echo "training ended with exit code $code; the chain stops here" >&2
        exit "$code"
        ;;
esac
