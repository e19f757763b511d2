#!/usr/bin/env bash
# Make the project's environment, or bring it up to date; does nothing when all is there.
#
#   tools/setup.sh [--extras core|dense|export|dev] [--check]
#   tools/setup.sh                    # everything, into .venv
#   tools/setup.sh --extras core      # pretraining and classification: nothing to compile
#   COMAD_VENV=~/envs/comad tools/setup.sh
#
# --extras LIST   what to install beside the core, separated by commas (default: dense,dev)
#                   core    pretraining, classification, tables
#                   dense   mmcv, mmseg, mmdet: segmentation and detection
#                   export  what tools/weights.py export --to onnx needs
#                   dev     pytest, ruff and what the tests need of export
# --check         only say what is there and what is missing; exit status 1 when something is
#
# Needs Python 3.10-3.12, git, for `dense` a C++ compiler, and 8 GB of disk. Installs the versions
# of constraints.txt. mmcv is compiled once, which takes some minutes; where a GPU and nvcc are
# found, its CUDA ops are built too.
#
# Environment: COMAD_VENV (.venv), PYTHON (the interpreter to start from, else python3.11, 3.12,
# 3.10 or python3 of the PATH), MAX_JOBS (compiler processes, all cores), CUDA_HOME.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
# What the user's shell adds to Python or pip must not leak into the environment.
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX
python=$venv/bin/python
shown=${venv#"$root"/}
stamp=$venv/.comad-setup
log=$venv/setup.log
check=0
problems=0
extras=

while (($#)); do
    case $1 in
        -h | --help) show_help && exit 0 ;;
        --check) check=1 ;;
        --extras)
            (($# > 1)) || die '--extras needs a list of core, dense, export, dev'
            extras=$2
            shift
            ;;
        --extras=*) extras=${1#--extras=} ;;
        *) die "unknown argument '$1'; --help lists them" ;;
    esac
    shift
done

stamped() {
    [[ -f $stamp ]] && sed -n "s/^$1=//p" "$stamp"
}

if ((check)) && [[ -z $extras ]]; then
    extras=$(stamped extras) || true
fi
extras=${extras:-dense,dev}
for extra in ${extras//,/ }; do
    [[ $extra =~ ^(core|dense|export|dev)$ ]] || die "unknown extra '$extra'; there are core, dense, export, dev"
done

wants() {
    [[ ,$extras, == *,$1,* ]]
}

# Everything that decides what belongs into the environment, beside the extras.
digest() {
    { cat constraints.txt setup.cfg && printf '%s\n' "$root" && "$python" -I -V; } | sha256sum | cut -c1-64
}

# cuda_wanted: a GPU, and an nvcc of the CUDA version of the installed torch.
cuda_wanted() {
    local ours theirs
    (($(gpu_count))) && command -v nvcc >/dev/null || return 1
    ours=$(sed -n "s/^cuda.*'\([0-9]*\)\..*/\1/p" "$venv"/lib/python3*/site-packages/torch/version.py)
    theirs=$(nvcc --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [[ $ours == "$theirs" ]]
}

complete() {
    local extra
    [[ -f $stamp ]] && [[ $(stamped digest) == "$(digest 2>/dev/null)" ]] || return 1
    for extra in ${extras//,/ }; do
        [[ $extra == core || ,$(stamped extras), == *,$extra,* ]] || return 1
    done
    # An environment made on a machine without a GPU gets its CUDA ops on the first one with.
    ! wants dense || [[ $(stamped ops) != cpu ]] || ! cuda_wanted
}

# report ok|note|missing TEXT: a diagnosis; an installation shows only what is missing.
report() {
    [[ $1 != missing ]] || problems=$((problems + 1))
    ((check)) || [[ $1 == missing ]] || return 0
    printf '%-8s %s\n' "$1" "$2"
}

python_version() {
    "$1" -I -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

supported() {
    [[ $1 =~ ^3\.1[0-2]\. ]]
}

# find_base: the first interpreter that really starts; a version manager's shim may not.
find_base() {
    local candidate version tried=
    for candidate in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
        if ! command -v "$candidate" >/dev/null; then
            tried+="; $candidate: not found"
        elif ! version=$(python_version "$candidate"); then
            tried+="; $candidate: does not start"
        elif ! supported "$version"; then
            tried+="; $candidate: is $version"
        else
            base=$(command -v "$candidate")
            report ok "Python $version ($base)"
            "$base" -I -c 'import ensurepip, venv' 2>/dev/null ||
                report missing "Python's venv module (Debian, Ubuntu: apt install python${version%.*}-venv)"
            return
        fi
    done
    report missing "Python 3.10-3.12 (${tried#; }); install one or name it: PYTHON=/path/to/python"
}

check_compiler() {
    local cxx kind=missing
    # Nothing is left to compile once mmcv is installed.
    [[ -x $python ]] && "$python" -I -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("mmcv"))' \
        2>/dev/null && kind=note
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

# check_machine: what must be there before anything can be installed.
check_machine() {
    local version free place=$venv
    base=
    if [[ -x $python ]]; then
        version=$(python_version "$python") || version='an interpreter that does not start'
        if supported "$version"; then
            report ok "environment $shown (Python $version)"
        else
            report missing "Python 3.10-3.12 in $shown: it has $version; delete it, or set COMAD_VENV"
        fi
    elif [[ -d $venv && ! -f $venv/pyvenv.cfg && -n $(ls -A "$venv") ]]; then
        report missing "an environment in $shown: it holds other files; set COMAD_VENV to a new folder"
    else
        find_base
        ((!check)) || report missing "environment $shown; tools/setup.sh makes it"
        while [[ ! -d $place ]]; do place=$(dirname "$place"); done
        free=$(($(df -Pk "$place" | awk 'END { print $4 }') / 1000000))
        ((free >= 8)) || report missing "disk: 8 GB are needed at $place, $free GB are free"
    fi
    if version=$(git --version 2>/dev/null); then report ok "$version"; else report missing git; fi
    ! wants dense || check_compiler
}

# ask COMMAND ARGS...: requirements, diagnose, core and ops of tools/_environment.py.
ask() {
    "$python" -I -B tools/_environment.py "$@"
}

pip_install() {
    "$python" -I -m pip install --quiet --no-input --disable-pip-version-check -c constraints.txt "$@"
}

make_environment() {
    [[ -x $python ]] || "$base" -m venv "$venv"
    pip_install pip
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

# install_mmcv [PIP OPTIONS...]: in a subshell, so that the compiler's settings stay here.
install_mmcv() (
    export MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$jobs}
    if [[ $ops == cuda ]]; then
        export FORCE_CUDA=1 CUDA_HOME=${CUDA_HOME:-$(cuda_home)}
        # A toolkit may come without the libraries' headers; torch's own packages hold them.
        if [[ ! -e $CUDA_HOME/include/cusparse.h ]]; then
            headers=("$venv"/lib/python3*/site-packages/nvidia/cu13/include)
            export CPATH=${headers[0]}${CPATH:+:$CPATH}
        fi
    fi
    pip_install --no-build-isolation "$@" mmcv
)

# keep_one_opencv: the two builds overwrite each other's files, and one of them needs libGL.
keep_one_opencv() {
    local keep=opencv-python count
    "$python" -I -c 'import ctypes; ctypes.CDLL("libGL.so.1")' || keep=opencv-python-headless
    count=$("$python" -I -m pip list --format=freeze | grep -c '^opencv-python') || true
    if ((count != 1)) || ! "$python" -I -c 'import cv2'; then
        "$python" -I -m pip uninstall --quiet --yes opencv-python opencv-python-headless
        pip_install "$keep"
    fi
}

install_requirements() {
    local wanted
    mapfile -t wanted < <(ask requirements ${extras//,/ })
    pip_install "${wanted[@]}"
    keep_one_opencv
}

# prove: the packages start, and mmcv's ops run, if need be after another build:
# pip may have offered a wheel that it once built against another torch, or without CUDA.
prove() {
    local device=cpu
    ask core
    wants dense || return 0
    [[ $ops != cuda ]] || device=cuda
    ask ops cpu && ask ops $device && return
    printf 'the ops of mmcv do not, so it is built anew; this takes some minutes ... ' >&3
    install_mmcv --no-cache-dir --force-reinstall --no-deps
    ask ops cpu
    ask ops $device
}

# step TEXT COMMAND...: shows where we are and how long it took; the output goes to the log.
step() {
    local start=$SECONDS
    doing=$1
    shift
    at=$((at + 1))
    printf '[%d/%d] %s ... ' "$at" "$steps" "$doing"
    printf '\n== %s\n' "$doing" >>"$log"
    "$@" >>"$log" 2>&1
    doing=
    printf '%d s\n' $((SECONDS - start))
}

# A signal may come while a step's output goes to the log; 3 and 4 are the terminal's.
on_exit() {
    local status=$?
    if [[ -n ${doing:-} ]]; then
        printf 'failed\n' >&3
        {
            ((status > 128)) || grep -v '^WARNING' "$log" | tail -n 12
            printf 'error: set-up stopped at "%s"; everything it said is in %s\n' "$doing" "$log"
        } >&4
    fi
    exit $status
}

check_only() {
    local kind text gpus
    check_machine
    gpus=$(gpu_count)
    report note "GPUs: $gpus; nvcc: $(nvcc --version 2>/dev/null | sed -n 's/.*release \([^,]*\),.*/\1/p' | grep . || echo none)"
    if [[ -x $python ]] && supported "$(python_version "$python")"; then
        while IFS=$'\t' read -r kind text; do report "$kind" "$text"; done < <(ask diagnose ${extras//,/ })
        if text=$(ask core 2>&1); then
            report ok 'torch, timm and mmengine start'
        else
            report missing "a core that starts (${text##*$'\n'})"
        fi
        if wants dense; then check_ops "$gpus"; fi
    fi
    ((!problems)) || die "$problems missing; tools/setup.sh mends the environment, the rest is the machine's"
    echo 'all there'
}

check_ops() {
    local text
    if text=$(ask ops cpu 2>&1); then
        report ok "mmcv's ops run on the CPU"
    else
        report missing "mmcv's ops (${text##*$'\n'})"
    fi
    (($1)) || return 0
    if text=$(ask ops cuda 2>&1); then
        report ok "mmcv's ops run on the GPU"
    elif cuda_wanted; then
        report missing "mmcv's ops on the GPU (${text##*$'\n'})"
    else
        report note "mmcv's ops do not run on the GPU, as Mask R-CNN there needs: no nvcc of torch's CUDA"
    fi
}

if ((check)); then
    check_only
    exit 0
fi
if complete; then
    echo "ready: $shown ($("$python" -I -V), extras $(stamped extras))"
    exit 0
fi
check_machine
((!problems)) || die "$problems missing on this machine; nothing was changed"

mkdir -p "$venv"
exec 9<"$venv"
if command -v flock >/dev/null && ! flock -n 9; then
    echo "another set-up of $shown is running; waiting for it"
    flock 9
    ! complete || exit 0
fi
exec 3>&1 4>&2
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
at=0
steps=5
! wants dense || steps=6
# The stamp vouches for the environment, so it goes before the first change and comes back last.
known=
ops=none
if [[ -f $stamp && $(stamped digest) == "$(digest 2>/dev/null)" ]]; then
    known=$(stamped extras)
    ops=$(stamped ops)
fi
rm -f "$stamp"

step "environment $shown" make_environment
step 'PyTorch (about 3 GB the first time)' pip_install torch torchvision setuptools wheel ninja psutil
if wants dense; then
    jobs=$(job_count)
    ops=cpu
    minutes=$((1 + 15 / jobs))
    if cuda_wanted; then
        ops=cuda
        minutes=$((1 + 90 / jobs))
    fi
    step "mmcv: compiles its $ops ops, this takes some minutes the first time (about $minutes)" install_mmcv
fi
step 'the other packages' install_requirements
step 'the project, editable' pip_install --no-deps --no-build-isolation -e .
step 'proof that all of it runs' prove
for extra in ${known//,/ }; do
    wants "$extra" || extras+=,$extra
done
printf 'digest=%s\nextras=%s\nops=%s\n' "$(digest)" "$extras" "$ops" >"$stamp.new"
mv "$stamp.new" "$stamp"
[[ $ops != cpu || $(gpu_count) == 0 ]] || echo "note: no nvcc of torch's CUDA version here, so" \
    'mmcv runs on the CPU only; Mask R-CNN on the GPU needs it, nothing else does'
echo "ready: $shown ($("$python" -I -V), extras $extras) after $SECONDS s"
