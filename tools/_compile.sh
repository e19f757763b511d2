# What tools/setup.sh, which sources it, needs for --compiled: a compiler, and mmcv built by it.

# cuda_wanted: a GPU, and an nvcc of the CUDA version of the installed torch.
cuda_wanted() {
    local theirs
    (($(gpu_count))) && command -v nvcc >/dev/null || return 1
    theirs=$(nvcc --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    torch_is "^cuda.*'$theirs\."
}

check_compiler() {
    local cxx kind=missing
    # Nothing is left to compile once it is installed.
    ! compgen -G "$venv/lib/python3*/site-packages/mmcv/_ext.*.so" >/dev/null || kind=note
    for cxx in ${CXX:-c++ g++}; do
        if echo 'int main() {}' | "$cxx" -std=c++17 -x c++ - -o /dev/null 2>/dev/null; then
            report ok "C++ compiler ($("$cxx" --version | head -n 1))"
            cxx=
            break
        fi
    done
    [[ -z $cxx ]] || report $kind "a C++17 compiler that works (Debian, Ubuntu: apt install g++)"
    cxx=$python
    [[ -x $cxx ]] || cxx=${base:-}
    [[ -z $cxx ]] || "$cxx" -I -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        report $kind "Python's headers (Debian, Ubuntu: apt install python3-dev)"
}

# Compiler processes: all cores, but one needs up to 2 GB of memory.
job_count() {
    local cores memory
    cores=$(core_count)
    memory=$(awk '/^MemAvailable/ { print 1 + int($2 / 2000000) }' /proc/meminfo 2>/dev/null) || true
    printf '%s\n' $((${memory:-$cores} < cores ? memory : cores))
}

# cuda_home: the toolkit that nvcc itself names; its place on the PATH may be a link or a wrapper.
cuda_home() {
    local top
    top=$(nvcc --dryrun -c none.cu 2>&1 | sed -n 's/^#\$ TOP=//p')
    (cd -- "${top:-$(dirname -- "$(command -v nvcc)")/..}" && pwd -P)
}

build_minutes() {
    local work=15
    ! cuda_wanted || work=90
    echo $((1 + work / $(job_count)))
}

# compile_mmcv: in a subshell, so that the compiler's settings stay here. A build that runs stays;
# no wheel is taken from pip's cache, as it may be of another torch, or without CUDA.
compile_mmcv() (
    # shellcheck disable=SC2046
    ! ask ops $(devices) || exit 0
    export MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(job_count)}
    if cuda_wanted; then
        export FORCE_CUDA=1 CUDA_HOME=${CUDA_HOME:-$(cuda_home)}
        # A toolkit may come without the libraries' headers; torch's own packages hold them.
        if [[ ! -e $CUDA_HOME/include/cusparse.h ]]; then
            headers=("$venv"/lib/python3*/site-packages/nvidia/cu13/include)
            export CPATH=${headers[0]}${CPATH:+:$CPATH}
        fi
    fi
    pip_install ninja
    pip_install --no-build-isolation --no-cache-dir --force-reinstall --no-deps mmcv
)
