#!/bin/bash
# Two nodes with eight GPUs each; the run folder, the model and the data lie on a file system that both nodes see.
#SBATCH --job-name=equipoise
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120

set -euo pipefail
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500"

# the same script again goes on where the run was stopped
srun equipoise launch --nodes "$SLURM_NNODES" --processes 8 --head "$head" \
    align dpo --model "$MODEL" --data "$DATA" --out "$RUN"
