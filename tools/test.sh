#!/usr/bin/env bash
# Set the environment up if need be (tools/setup.sh), then run the tests.
#
#   tools/test.sh [pytest arguments]
#   tools/test.sh                                # everything that this machine can run
#   tools/test.sh -m 'not slow'                  # seconds per file, no training
#   tools/test.sh tests/methods -k gate -x
#
# Tests marked `gpu` are left out on a machine without a GPU, unless -m is given. Files run side by
# side, TEST_JOBS of them (the cores, 4 at most), with one thread each unless OMP_NUM_THREADS is
# set; TEST_JOBS=1 or --pdb runs them one after the other.
#
# Tests marked `browser` open pages in Chromium, those marked `slurm` start a Slurm cluster on this
# machine. Where either is missing it is installed (apt-get, as root); where it cannot be, they are
# skipped with that reason, and with COMAD_NEED_BROWSER=1 or COMAD_NEED_SLURM=1 they fail.
# COMAD_CHROME and COMAD_CHROMEDRIVER name another Chrome and its driver.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
case ${1:-} in
    -h | --help) show_help && exit 0 ;;
esac

# get WHAT MARK PACKAGE...: installs it, or says which tests go without.
get() {
    local what=$1 mark=$2
    shift 2
    if ((EUID == 0)) && type -P apt-get >/dev/null; then
        echo "installing $* for the $mark tests" >&2
        apt-get update -qq >&2 &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                -o Acquire::Retries=3 "$@" >&2 && return 0
    fi
    echo "note: no $what for the tests marked $mark: apt install $*" >&2
}

get_browser() {
    local missing=() found
    found=${COMAD_CHROME:-}$(type -P chromium chromium-browser google-chrome) || true
    [[ -n $found ]] || missing+=(chromium)
    found=${COMAD_CHROMEDRIVER:-}$(type -P chromedriver) || true
    [[ -n $found ]] || missing+=(chromium-driver)
    ((${#missing[@]} == 0)) || get browser browser "${missing[@]}"
}

get_slurm() {
    PATH=$PATH:/usr/sbin type -P slurmctld >/dev/null || get Slurm slurm slurm-wlm
}

jobs=${TEST_JOBS:-$(core_count)}
need_count TEST_JOBS "$jobs"
bash tools/setup.sh
need_python
get_browser
get_slurm
marks=()
(($(gpu_count))) || marks=(-m 'not gpu')
jobs=$((jobs > 4 ? 4 : jobs))
[[ " $* " != *" --pdb "* ]] || jobs=1
side_by_side=()
# In the order of the folders: sorted by their number of tests, the longest files would come last.
((jobs == 1)) || side_by_side=(-n "$jobs" --dist loadfile --no-loadscope-reorder)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$python" -m pytest "${side_by_side[@]}" "${marks[@]}" "$@"
