#!/usr/bin/env bash
# Train on the machines of a Slurm job; everything after the script's name goes to paper_utils.train:
#
#     sbatch --nodes 2 --gpus-per-node 4 docs/slurm_train.sh 06 --profile full
#
# Submit it from the project's folder, which all machines must see at the same path. A process that dies is started again up to three times, a
# machine that fails puts the job back into the queue (--requeue); both go on from the last checkpoint.
#SBATCH --job-name=paper_utils
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Every job meets at a port of its own.
endpoint="${machines[0]}:$((20000 + SLURM_JOB_ID % 20000))"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Without it the processes that are started again look for those that are gone (pytorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

srun .venv/bin/torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id "$SLURM_JOB_ID" \
    -m paper_utils.train "$@"
