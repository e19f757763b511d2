#!/usr/bin/env bash
# Train a config under Slurm, one task per GPU.
#
#   tools/slurm_train.sh PARTITION JOB CONFIG [train.py arguments]
#   GPUS=16 tools/slurm_train.sh gpu comad pretrain_configs/comad_tiny.py --amp
#   SBATCH_ARGS=--time=24:00:00 tools/slurm_train.sh --batch gpu comad pretrain_configs/comad_tiny.py
#   SBATCH_ARGS='--time=8:00:00 --array=0-2' tools/slurm_train.sh --batch gpu mae pretrain_configs/mae_tiny.py
#
# --batch      submit a job that goes on by itself: before its time is over, or when it is
#              preempted, the training saves and the job is queued again, until it is finished.
#              The tasks of an array are runs of their own, with the seeds of their numbers
# --dry-run    print the command instead of running it
#
# CONFIG may be relative to the current directory or to the repository; other paths are taken
# from the repository. `python tools/train.py --help` lists the other arguments. TERM, USR1 and
# Ctrl-C save, and end with exit code 75; a second Ctrl-C ends at once. A batch job always resumes
# (--resume auto). docs/cluster.md says more.
#
# Environment, as in OpenMMLab's tools: GPUS (those of a node, 8 at most; on a partition without
# GPUS the processes, 1), GPUS_PER_NODE, CPUS_PER_TASK (5), SRUN_ARGS (further srun options), PORT
# (by the job's number in 20000-29999). With --batch: SBATCH_ARGS (further sbatch options; --gres
# or --gpus there replaces --gres=gpu:N), GRACE (120, the seconds before the end of its time at
# which the training is asked to save), RETRIES (3, how often a job whose machine or process broke
# is queued again without a new checkpoint in between). Inside of an allocation its own tasks
# count, unless GPUS is set.

asked= # whether a signal has asked for a stop, from the first moment on
trap 'asked=1' USR1 TERM
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
options=" ${args[*]:3}"
# What train.py's exit codes are called has its home in that file.
code() {
    sed -n "s/^$1 = \([0-9]*\).*/\1/p" comad/engine/preemption.py | grep . ||
        die "comad/engine/preemption.py states no $1"
}

# gpus_of PARTITION: the most GPUs that a node of it has; nothing where that cannot be known.
gpus_of() {
    local most= line entry count
    while read -r line; do
        count=0
        for entry in ${line//,/ }; do
            entry=${entry%%(*}
            [[ $entry != gpu:* ]] || count=$((count + ${entry##*:}))
        done
        ((count <= ${most:--1})) || most=$count
    done < <(sinfo -h -p "$1" -o %G 2>/dev/null)
    printf '%s\n' "$most"
}

# set_shape EXTRA: the options of an allocation; EXTRA are the user's own.
set_shape() {
    local here gpus per_node cpus=${CPUS_PER_TASK:-5}
    here=$(gpus_of "${args[0]}")
    gpus=${GPUS:-$((${here:-8} < 8 ? (${here:-8} ? here : 1) : 8))}
    need_count GPUS "$gpus"
    per_node=${GPUS_PER_NODE:-$((${here:-0} && here < gpus ? here : gpus < 8 ? gpus : 8))}
    need_count GPUS_PER_NODE "$per_node"
    need_count CPUS_PER_TASK "$cpus"
    ((gpus <= per_node || gpus % per_node == 0)) ||
        die "GPUS=$gpus is no multiple of GPUS_PER_NODE=$per_node"
    shape=(--partition="${args[0]}" --job-name="${args[1]}" --ntasks="$gpus"
        --ntasks-per-node="$per_node" --cpus-per-task="$cpus")
    [[ ${here:-} != 0 && ! " $1" =~ \ (--gres|--gpus|-G) ]] || return 0
    ((per_node <= ${here:-per_node})) ||
        die "GPUS_PER_NODE=$per_node: a node of partition ${args[0]} has $here GPUs"
    shape+=(--gres=gpu:"$per_node")
}

# seconds_of LIMIT: a time limit in Slurm's forms, M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.
seconds_of() {
    local days=0 a b c
    [[ $1 =~ ^([0-9]+-)?[0-9]+(:[0-9]+){0,2}$ ]] || return 0
    IFS=: read -r a b c <<<"${1#*-}"
    if [[ $1 == *-* ]]; then days=${1%%-*}; elif [[ -z $c ]]; then c=${b:-0} b=$a a=0; fi
    printf '%s\n' $(((10#$days * 24 + 10#$a) * 3600 + 10#${b:-0} * 60 + 10#${c:-0}))
}

grace=${GRACE:-120}
retries=${RETRIES:-3}
need_count GRACE "$grace"
need_count RETRIES "$retries" 0
# check_time LIMIT: Slurm signals up to a minute early, and at once where GRACE is longer than the
# job, which would then be queued again for ever.
check_time() {
    local limit
    limit=$(seconds_of "$1")
    [[ -z $limit ]] || ((limit > grace + 60)) ||
        die "GRACE=$grace leaves a job of $1 no time to train: at least $(((grace + 179) / 60)) minutes are needed"
}

if ((batch)); then
    extra=${SBATCH_ARGS:-}
    set_shape "$extra"
    limit=${SBATCH_TIMELIMIT:-}
    [[ ! " $extra" =~ \ (--time[= ]|-t[= ]?)([0-9:-]+) ]] || limit=${BASH_REMATCH[2]}
    check_time "$limit"
    [[ ! " $extra" =~ \ (--array|-a) || ! $options =~ \ (--seed|--work-dir) ]] ||
        die "${BASH_REMATCH[1]} is the same for all tasks of an array; without it each has the seed of its number"
    ((dry_run)) || command -v sbatch >/dev/null ||
        die 'sbatch not found: this is no machine of a Slurm cluster'
    read -ra sbatch_args <<<"$extra"
    kept=(GPUS= RETRIES="$retries" GRACE="$grace") # whatever --export says
    for name in COMAD_CALLER COMAD_VENV MASTER_ADDR OMP_NUM_THREADS PORT SRUN_ARGS; do
        [[ -z ${!name:-} ]] || kept+=("$name=${!name}")
    done
    # Slurm runs a copy of a script from elsewhere; this one has to find the repository.
    run sbatch "${shape[@]}" --requeue --open-mode=append --signal="B:USR1@$grace" \
        --chdir="$root" "${sbatch_args[@]}" \
        --wrap "exec env $(printf '%q ' "${kept[@]}" bash "$script" "${args[@]:0:2}" "$config" "${args[@]:3}")"
fi

in_batch=0
[[ ${ENVIRONMENT:-} != BATCH || -n ${SLURM_STEP_ID:-} ]] || in_batch=1
extra=${SRUN_ARGS:-}
if [[ -z ${SLURM_JOB_ID:-} ]]; then
    set_shape "$extra"
else
    # The allocation has its shape; a shell in a step of it (srun --pty) holds all of its resources.
    shape=(${GPUS:+--ntasks="$GPUS"} ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"})
    [[ -z ${SLURM_STEP_ID:-} ]] || shape+=(--overlap)
fi
((dry_run)) || command -v srun >/dev/null || die 'srun not found: this is no machine of a Slurm cluster'
need_python
[[ -z ${PORT:-} ]] || export MASTER_PORT=$PORT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
read -ra srun_args <<<"$extra"
train=(tools/train.py "$config" --launcher slurm "${args[@]:3}")
[[ -z ${SLURM_ARRAY_TASK_ID:-} || $options == *' --seed'* ]] || train+=(--seed "$SLURM_ARRAY_TASK_ID")
((!in_batch)) || [[ $options == *' --resume'* ]] || train+=(--resume auto)
step=(srun "${shape[@]}" --export=ALL --kill-on-bad-exit=1 "${srun_args[@]}" "$python" -u "${train[@]}")
((!dry_run)) || run "${step[@]}"

# queue_again: where Slurm ends a job itself it also queues it again, unless it was cancelled.
queue_again() {
    local state
    state=$(squeue -h -j "$SLURM_JOB_ID" -o %T) || state=RUNNING
    [[ $state != RUNNING ]] || scontrol requeue "$SLURM_JOB_ID" ||
        die "job $SLURM_JOB_ID could not be queued again"
    exit "$(code PREEMPTED)"
}

if ((in_batch)); then
    check_time "$(squeue -h -j "$SLURM_JOB_ID" -o %l 2>/dev/null)"
    [[ -z $asked ]] || queue_again
fi
[[ -z $asked ]] || exit "$(code PREEMPTED)"

# srun ends the training for TERM, and asks again for Ctrl-C; it hands on USR1 only.
child=
interrupted=0
hand_on() {
    interrupted=1
    if [[ -n $asked && $1 == INT && -n $child ]]; then
        kill -TERM "$child" 2>/dev/null || true
    elif [[ -n $child ]]; then
        kill -USR1 "$child" 2>/dev/null || true
    fi
    asked=1
}
for name in USR1 TERM INT HUP; do
    # shellcheck disable=SC2064
    trap "hand_on $name" $name
done
mkdir -p work_dirs
# Of the first process: srun may report one that it killed after the first had ended.
COMAD_OUTCOME=$root/$(mktemp work_dirs/.outcome.XXXXXX)
export COMAD_OUTCOME
set -m # Ctrl-C is for this shell, not for srun
"${step[@]}" </dev/null &
child=$!
[[ -z $asked ]] || kill -USR1 "$child" 2>/dev/null || true
status=0
while :; do # a trapped signal ends the wait, not the training
    interrupted=0
    ended=0
    wait "$child" || ended=$?
    ((ended == 127)) || status=$ended # 127: its status has been told already
    ((interrupted)) || break
done
told=$(cat "$COMAD_OUTCOME")
rm -f "$COMAD_OUTCOME"
((in_batch)) || exit "${told:-$status}"

case $told in
    0) exit 0 ;;
    '' | "$(code LOST)" | "$(code PREEMPTED)") ;;
    *) exit "$told" ;;
esac
[[ -z $asked ]] || queue_again
# Something broke, or signalled the training itself: not for ever without a new checkpoint.
work_dir=$("$python" "${train[@]}" --print-work-dir) || exit $?
newest=$(head -n 1 "$work_dir/last_checkpoint" 2>/dev/null) || newest=none
read -r crashes since <"$work_dir/crashes" 2>/dev/null || crashes=0
[[ $newest == "${since:-}" ]] || crashes=0
crashes=$((crashes + 1))
mkdir -p "$work_dir"
echo "$crashes $newest" >"$work_dir/crashes"
((crashes <= retries)) ||
    die "the training broke $crashes times without a new checkpoint, now with status ${told:-$status}: not queued again"
echo "note: the training broke with status ${told:-$status}; job $SLURM_JOB_ID is queued again" >&2
queue_again
