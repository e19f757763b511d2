#!/usr/bin/env bash
# Test a checkpoint in several processes: one per GPU, or without GPUs one per CPU share.
#
#   tools/dist_test.sh CONFIG CHECKPOINT N [test.py arguments]
#   tools/dist_test.sh seg_configs/upernet_comad_tiny.py work_dirs/upernet/comad_tiny/seed0/iter_160000.pth 8
#
# CONFIG and CHECKPOINT may be relative to the current directory or to the repository; other
# paths are taken from the repository. --dry-run prints the command instead of running it;
# `python tools/test.py --help` lists the other arguments.
#
# Environment, as in OpenMMLab's tools: NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1),
# PORT (a free one; with several nodes 29500), OMP_NUM_THREADS (cores / N).

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
parse_common "$@"
((${#args[@]} >= 3)) ||
    die "usage: tools/dist_test.sh CONFIG CHECKPOINT N [test.py arguments]; --help says more"
config=$(find_path config "${args[0]}")
checkpoint=$(find_path checkpoint "${args[1]}")
need_python
run_distributed "${args[2]}" tools/test.py "$config" "$checkpoint" --launcher pytorch "${args[@]:3}"
