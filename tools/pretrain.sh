#!/usr/bin/env bash
# Pretrain a student with a method, on all GPUs here, else on the CPU.
#
#   tools/pretrain.sh METHOD [--sample] [--gpus N] [train.py arguments]
#   tools/pretrain.sh comad                  # ImageNet, all GPUs
#   tools/pretrain.sh comad --sample         # the embedded data, minutes on a CPU
#   tools/pretrain.sh mae_base --gpus 4      # METHOD may name another size than tiny
#
# --gpus N     GPUs to use; 0 is the CPU. Default: all, or one with --sample, whose batches suit one
# --dry-run    print the command instead of running it
# `python tools/train.py --help` lists the other arguments; paths among them are taken from the
# repository. CUDA_VISIBLE_DEVICES chooses the GPUs.
#
# SIGTERM, SIGUSR1 or Ctrl-C saves after the current step and ends with exit code 75; the same
# command with --resume goes on.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"

# All methods; those of the default size without their `_tiny`.
methods() {
    local names
    mapfile -t names < <(ls pretrain_configs/ | sed -n 's/\(_tiny\)\{0,1\}\.py$//p' | sort)
    printf '%s\n' "${names[*]}"
}

for arg in "$@"; do
    [[ $arg != -h && $arg != --help ]] || { show_help && echo && echo "methods: $(methods)" && exit 0; }
done
parse_common "$@"
gpus=
sample=0
method=
train_args=()
while ((${#args[@]})); do
    arg=${args[0]}
    args=("${args[@]:1}")
    case $arg in
        --gpus)
            ((${#args[@]})) || die '--gpus needs a number'
            gpus=${args[0]}
            args=("${args[@]:1}")
            ;;
        --gpus=*) gpus=${arg#--gpus=} ;;
        *)
            [[ $arg != --sample ]] || sample=1
            if [[ -z $method && $arg != -* ]]; then method=$arg; else train_args+=("$arg"); fi
            ;;
    esac
done
[[ -n $method ]] || die "METHOD is missing; one of: $(methods)"
config=pretrain_configs/${method}_tiny.py
[[ -f $config ]] || config=pretrain_configs/$method.py
[[ $method != */* && -f $config ]] || die "no method '$method'; one of: $(methods)"

[[ $gpus != 0 ]] || export CUDA_VISIBLE_DEVICES=
if [[ -z $gpus ]]; then
    gpus=$(gpu_count)
    ((!sample || gpus <= 1)) || gpus=1
fi
need_count --gpus "$gpus" 0
((gpus == 0 || gpus <= $(gpu_count))) || die "--gpus $gpus, but $(gpu_count) here; --gpus 0 is the CPU"
need_python
if ((gpus > 1)); then
    run_distributed "$gpus" tools/train.py "$config" --launcher pytorch "${train_args[@]}"
fi
run "$python" tools/train.py "$config" "${train_args[@]}"
