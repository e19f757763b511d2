#!/usr/bin/env bash
# Train a config in several processes: one per GPU, or on a machine without GPUs one per CPU share.
#
#   tools/dist_train.sh CONFIG N [train.py arguments]
#   tools/dist_train.sh seg_configs/upernet_comad_tiny.py 8
#   tools/dist_train.sh seg_configs/upernet_comad_tiny.py 2 --sample
#
# CONFIG may be relative to the current directory or to the repository; other paths are taken
# from the repository. --dry-run prints the command instead of running it;
# `python tools/train.py --help` lists the other arguments.
#
# Environment, as in OpenMMLab's tools: NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1),
# PORT (a free one; with several nodes 29500), OMP_NUM_THREADS (cores / N).
# CUDA_VISIBLE_DEVICES= trains on the CPU of a GPU machine.
#
# SIGTERM, SIGUSR1 or Ctrl-C saves after the current step and ends with exit code 75; the same
# command with --resume goes on.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
parse_common "$@"
((${#args[@]} >= 2)) || die "usage: tools/dist_train.sh CONFIG N [train.py arguments]; --help says more"
config=$(find_path config "${args[0]}")
need_python
run_distributed "${args[1]}" tools/train.py "$config" --launcher pytorch "${args[@]:2}"
