#!/usr/bin/env bash
# Set the environment up if need be (tools/setup.sh), then run the tests.
#
#   tools/test.sh [pytest arguments]
#   tools/test.sh                                # everything that this machine can run
#   tools/test.sh -m 'not slow'                  # seconds per file, no training
#   tools/test.sh tests/methods -k gate -x
#
# Tests marked `gpu` are left out on a machine without a GPU, unless -m is given.
# OMP_NUM_THREADS is half of the cores, 4 at most, unless set: some tests start two processes.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
case ${1:-} in
    -h | --help) show_help && exit 0 ;;
esac
bash tools/setup.sh
need_python
marks=()
(($(gpu_count))) || marks=(-m 'not gpu')
threads=$(($(core_count) / 2))
threads=$((threads > 4 ? 4 : threads < 1 ? 1 : threads))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
exec "$python" -m pytest "${marks[@]}" "$@"
