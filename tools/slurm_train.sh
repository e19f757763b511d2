#!/usr/bin/env bash
# Train a config under Slurm, one task per GPU.
#
#   tools/slurm_train.sh PARTITION JOB CONFIG [train.py arguments]
#   GPUS=16 tools/slurm_train.sh gpu comad pretrain_configs/comad_tiny.py --amp
#
# CONFIG may be relative to the current directory or to the repository; other paths are taken
# from the repository. --dry-run prints the command instead of running it;
# `python tools/train.py --help` lists the other arguments.
#
# Environment, as in OpenMMLab's tools: GPUS (8), GPUS_PER_NODE (8, or GPUS if fewer),
# CPUS_PER_TASK (5), SRUN_ARGS (further srun options), PORT (by chance in 20000-29999).

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
parse_common "$@"
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
((dry_run)) || command -v srun >/dev/null || die 'srun not found: this is no machine of a Slurm cluster'
need_python
# Whether a port is free on the compute node cannot be known here; chance keeps two jobs apart.
export MASTER_PORT=${PORT:-$((20000 + RANDOM % 10000))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
read -ra srun_args <<<"${SRUN_ARGS:-}"
run srun --partition="${args[0]}" --job-name="${args[1]}" --gres=gpu:"$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="$cpus" --kill-on-bad-exit=1 "${srun_args[@]}" \
    "$python" -u tools/train.py "$config" --launcher slurm "${args[@]:3}"
