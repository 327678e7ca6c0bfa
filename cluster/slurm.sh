#!/usr/bin/env bash
# Trains a run on the GPUs of one or more nodes, and starts it again whenever it is preempted or its time is over.
# Call it in the project's root: sbatch --nodes=2 cluster/slurm.sh --config=gpt2_124m --workdir=runs/gpt2
# Change what a GPU gets of its node, and the time; in an array (--array=0-4), %a in the options is the task's number.
#SBATCH --ntasks-per-node=1 --gpus-per-node=8 --cpus-per-gpu=8 --mem-per-gpu=64G
#SBATCH --time=24:00:00 --signal=TERM@300
#SBATCH --requeue --open-mode=append
# One task a node takes all of its GPUs: the data, the replay and what decodes images are there once.

job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID} # of an array's last task the number means the whole array

srun --kill-on-bad-exit=1 python3 launch.py train "${@//%a/$SLURM_ARRAY_TASK_ID}"
status=$?

[ $status = 75 ] && scontrol requeue "$job" # preempted
exit $status
