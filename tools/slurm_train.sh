#!/usr/bin/env bash
# Train a config under Slurm, one task per GPU.
#
#   tools/slurm_train.sh PARTITION JOB CONFIG [train.py arguments]
#   GPUS=16 tools/slurm_train.sh gpu comad pretrain_configs/comad_tiny.py --amp
#   tools/slurm_train.sh --batch gpu comad pretrain_configs/comad_tiny.py --amp
#
# --batch      submit a job that goes on by itself: before its time is over, or when it is
#              preempted, the training saves and the job is queued again, until it is finished
# --dry-run    print the command instead of running it
#
# CONFIG may be relative to the current directory or to the repository; other paths are taken
# from the repository. `python tools/train.py --help` lists the other arguments. Inside a job the
# training always resumes (--resume auto); with exit code 75 it was asked to stop and goes on.
#
# Environment, as in OpenMMLab's tools: GPUS (8), GPUS_PER_NODE (8, or GPUS if fewer),
# CPUS_PER_TASK (5), SRUN_ARGS (further srun options), PORT (by chance in 20000-29999). With
# --batch: SBATCH_ARGS (further sbatch options, such as --time=24:00:00), GRACE (120, the seconds
# before the end of its time at which the training is asked to save).

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
parse_common "$@"
batch=0
rest=()
for arg in "${args[@]}"; do
    if [[ $arg == --batch ]]; then batch=1; else rest+=("$arg"); fi
done
args=("${rest[@]}")
((${#args[@]} >= 3)) ||
    die "usage: tools/slurm_train.sh PARTITION JOB CONFIG [train.py arguments]; --help says more"
config=$(find_path config "${args[2]}")
gpus=${GPUS:-8}
need_count GPUS "$gpus"
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
cpus=${CPUS_PER_TASK:-5}
need_count GPUS_PER_NODE "$per_node"
need_count CPUS_PER_TASK "$cpus"
((gpus <= per_node || gpus % per_node == 0)) ||
    die "GPUS=$gpus is no multiple of GPUS_PER_NODE=$per_node"
shape=(--partition="${args[0]}" --job-name="${args[1]}" --gres=gpu:"$per_node" --ntasks="$gpus"
    --ntasks-per-node="$per_node" --cpus-per-task="$cpus")

if ((batch)); then
    need_count GRACE "${GRACE:-120}"
    ((dry_run)) || command -v sbatch >/dev/null ||
        die 'sbatch not found: this is no machine of a Slurm cluster'
    read -ra sbatch_args <<<"${SBATCH_ARGS:-}"
    # Slurm runs a copy of a script from elsewhere; this one has to find the repository.
    run sbatch "${shape[@]}" --requeue --open-mode=append --signal="B:USR1@${GRACE:-120}" \
        --chdir="$root" "${sbatch_args[@]}" \
        --wrap "exec bash $(printf '%q ' "$script" "${args[@]:0:2}" "$config" "${args[@]:3}")"
fi

in_job=0
[[ -z ${SLURM_JOB_ID:-} || -n ${SLURM_STEP_ID:-} ]] || in_job=1
((dry_run)) || command -v srun >/dev/null || die 'srun not found: this is no machine of a Slurm cluster'
need_python
# Whether a port is free on the compute node cannot be known here; chance keeps two jobs apart.
export MASTER_PORT=${PORT:-$((20000 + RANDOM % 10000))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
read -ra srun_args <<<"${SRUN_ARGS:-}"
train=(tools/train.py "$config" --launcher slurm "${args[@]:3}")
((!in_job)) || [[ " ${args[*]:3} " == *' --resume'* ]] || train+=(--resume auto)
step=(srun "${shape[@]}" --kill-on-bad-exit=1 "${srun_args[@]}" "$python" -u "${train[@]}")
((in_job && !dry_run)) || run "${step[@]}"

# Inside a batch job, which alone gets its signals: srun hands them on to the training.
child=
again=0
early=
hand_on() {
    again=1
    if [[ -n $child ]]; then kill "-$1" "$child" 2>/dev/null || true; else early=$1; fi
}
# Before the step starts: a signal at its very beginning would end this shell and leave it behind.
trap 'hand_on USR1' USR1
trap 'hand_on TERM' TERM INT
"${step[@]}" &
child=$!
[[ -z $early ]] || hand_on "$early"
status=0
while :; do # a trapped signal ends the wait, not the training
    again=0
    ended=0
    wait "$child" || ended=$?
    ((ended == 127)) || status=$ended # 127: its status has been told already
    ((again)) || break
done
((status)) || exit 0
# srun may report the task that it killed after the first had ended, so the marker counts too.
marker=$("$python" "${train[@]}" --print-work-dir)/requeue || marker=
# train.py's exit code after it has saved as it was asked to; its home is that file.
preempted=$(sed -n 's/^PREEMPTED = \([0-9]*\).*/\1/p' comad/engine/preemption.py)
[[ -n $preempted ]] || die 'comad/engine/preemption.py states no PREEMPTED'
if ((status == preempted)) || [[ -n $marker && -e $marker ]]; then
    scontrol requeue "$SLURM_JOB_ID" || die "job $SLURM_JOB_ID could not be queued again"
    exit "$preempted"
fi
exit "$status"
