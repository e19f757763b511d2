#!/usr/bin/env bash
# Make the project's environment, or bring it up to date; does nothing when all is there.
#
#   tools/setup.sh [--extras LIST] [--compiled | --lite] [--python V] [--torch V] [--check]
#   tools/setup.sh                                # everything, into .venv
#   tools/setup.sh --extras core                  # pretraining and classification only
#   tools/setup.sh --python 3.13 --torch 2.14     # another set, into .venv-py3.13-torch2.14
#   COMAD_VENV=~/envs/comad tools/setup.sh
#
# --extras LIST   what to install beside the core, separated by commas (default: dense,dev)
#                   core    pretraining, classification, tables
#                   dense   mmcv, mmseg, mmdet: segmentation and detection
#                   export  what tools/weights.py export --to onnx needs
#                   video   PyAV, a second decoder of videos
#                   dev     pytest, ruff and what the tests need of export
# --compiled      compile all operators of mmcv, for networks other than the suite's; takes a C++
#                 compiler and minutes, for the GPU also nvcc. --lite goes back to the default:
#                 the two that UperNet and Mask R-CNN need, on torchvision's kernels
# --python V      3.10 to 3.13
# --torch V       2.6 or newer, with the torchvision for it; other pins hold as far as they can
# --check         only say what is there and what is missing; exit status 1 when something is
#
# Needs Python 3.10-3.13, git, and 8 GB of disk. Installs the versions of constraints.txt, by uv
# where it is on the PATH or pip can install it, else by pip. Without a GPU PyTorch's CPU build is
# taken where uv reaches its index. An environment keeps its extras, torch and mmcv until others
# are named.
#
# Environment: COMAD_VENV (.venv), PYTHON (the interpreter to start from, else python3.11, 3.12,
# 3.10, 3.13 or python3 of the PATH); for --compiled MAX_JOBS (all cores), CUDA_HOME.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
source tools/_compile.sh
# What the user's shell adds to Python, pip or uv must not leak into the environment.
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX UV_TARGET UV_PREFIX UV_SYSTEM_PYTHON
check=0
problems=0
extras=
mmcv=
release=
torch=

while (($#)); do
    case $1 in
        --extras=* | --python=* | --torch=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    case $1 in
        -h | --help) show_help && exit 0 ;;
        --check) check=1 ;;
        --compiled | --lite) mmcv=${1#--} ;;
        --extras)
            (($# > 1)) || die '--extras needs a list of core, dense, export, video, dev'
            extras=$2
            shift
            ;;
        --python)
            [[ ${2:-} =~ ^3\.1[0-3]$ ]] || die "--python is '${2:-}'; it may be 3.10, 3.11, 3.12 or 3.13"
            release=$2
            shift
            ;;
        --torch)
            [[ ${2:-} =~ ^2\.([6-9]|[1-9][0-9])(\.[0-9]+)?$ ]] ||
                die "--torch is '${2:-}'; a release from 2.6 on is needed, such as 2.6 or 2.14.1"
            torch=$2
            shift
            ;;
        *) die "unknown argument '$1'; --help lists them" ;;
    esac
    shift
done
# Another set lies beside the usual one.
[[ -n ${COMAD_VENV:-} ]] || venv+=${release:+-py$release}${torch:+-torch$torch}
python=$venv/bin/python
shown=${venv#"$root"/}
stamp=$venv/.comad-setup
log=$venv/setup.log

stamped() {
    [[ -f $stamp ]] && sed -n "s/^$1=//p" "$stamp" || true
}

torch=${torch:-$(stamped torch)}
mmcv=${mmcv:-$(stamped mmcv)}
mmcv=${mmcv:-lite}
if ((check)); then
    extras=${extras:-$(stamped extras)}
fi
extras=${extras:-dense,dev}
for extra in ${extras//,/ }; do
    [[ $extra =~ ^(core|dense|export|video|dev)$ ]] ||
        die "unknown extra '$extra'; there are core, dense, export, video, dev"
done

wants() {
    [[ ,$extras, == *,$1,* ]]
}

compiles() {
    wants dense && [[ $mmcv == compiled ]]
}

# devices: where mmcv's operators must run.
devices() {
    if (($(gpu_count) == 0)) || { compiles && ! cuda_wanted; }; then echo cpu; else echo cpu cuda; fi
}

# Everything that decides what belongs into the environment, beside the extras and the hardware.
digest() {
    {
        cat constraints.txt setup.cfg ops/pyproject.toml ops/setup.py backbones/mmcv_ext.py
        printf '%s\n' "$root" "$torch" "$mmcv"
        "$python" -I -V
    } | sha256sum | cut -c1-64
}

# torch_is TEXT: whether the installed torch's version file has it; importing torch takes seconds.
torch_is() {
    grep -qs -- "$1" "$venv"/lib/python3*/site-packages/torch/version.py
}

complete() {
    local extra
    [[ -f $stamp ]] && [[ $(stamped digest) == "$(digest 2>/dev/null)" ]] || return 1
    for extra in ${extras//,/ }; do
        [[ $extra == core || ,$(stamped extras), == *,$extra,* ]] || return 1
    done
    # An environment made on a machine without a GPU is remade for CUDA on the first one with.
    ((!$(gpu_count))) || [[ $(stamped build) != cpu ]] || return 1
    ! compiles || [[ $(stamped devices) == *cuda* ]] || ! cuda_wanted
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
    [[ $1 =~ ^3\.1[0-3]\. && $1 == ${release:-3}.* ]]
}

# interpreters NAME: where it is, on the PATH or kept by pyenv or uv.
interpreters() {
    local number=${1#python}
    type -aP "$1" || true
    [[ $number =~ ^3\.[0-9]+$ ]] || return 0
    compgen -G "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$number.*/bin/$1" || true
    uv python find --no-python-downloads "$number" 2>/dev/null || true
}

# find_base: the first interpreter that really starts; a version manager's shim may not.
find_base() {
    local name candidate version found tried= names=${PYTHON:-${release:+python$release}}
    names=${names:-python3.11 python3.12 python3.10 python3.13 python3}
    for name in $names; do
        found='not found'
        while read -r candidate; do
            if ! version=$(python_version "$candidate"); then
                found='does not start'
            elif ! supported "$version"; then
                found="is $version"
            else
                base=$candidate
                report ok "Python $version ($base)"
                "$base" -I -c 'import ensurepip, venv' 2>/dev/null ||
                    report missing "Python's venv module (Debian, Ubuntu: apt install python${version%.*}-venv)"
                return
            fi
        done < <(interpreters "$name")
        tried+="; $name: $found"
    done
    report missing "Python ${release:-3.10-3.13} (${tried#; }); install one or name it: PYTHON=/path/to/python"
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
            report missing "Python ${release:-3.10-3.13} in $shown: it has $version; delete it, or set COMAD_VENV"
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
    ! compiles || check_compiler
}

# ask COMMAND ARGS...: what tools/_environment.py knows.
ask() {
    "$python" -I -B tools/_environment.py "$@"
}

pip_install() {
    "$python" -I -m pip install --quiet --no-input --disable-pip-version-check -c "$pins" "$@"
}

# install ARGS...: by uv, many times faster, or else by pip; their options used here are the same.
install() {
    if [[ -n $uv ]]; then
        "$uv" pip install --quiet --python "$python" -c "$pins" "$@" && return
        uv=
        printf 'uv failed, so pip ... ' >&3
    fi
    pip_install "$@"
}

uninstall() {
    "$python" -I -m pip uninstall --quiet --yes --disable-pip-version-check "$@"
}

make_environment() {
    local setting
    [[ -x $python ]] || "$base" -m venv "$venv"
    pins=$venv/constraints.txt
    ask pins "$torch" >"$pins"
    export UV_PYTHON_DOWNLOADS=never
    uv=$(type -P uv) || uv=$venv/bin/uv
    [[ -x $uv ]] || pip_install uv || true
    [[ -x $uv ]] || uv=
    while read -r setting; do export "${setting?}"; done < <(ask uv_settings)
    install pip setuptools
}

# install_torch: says which build comes and why. Whether uv reaches the index of CPU builds, whose
# address it knows, is a matter of seconds either way.
install_torch() {
    local wanted=("torch${torch:+==$torch.*}" torchvision) why="PyPI's build"
    if (($(gpu_count))); then
        why='with CUDA, as a GPU is here'
        ! torch_is '+cpu' || uninstall torch torchvision
    elif [[ -n $uv && $(uname -s) == Linux ]]; then
        if UV_HTTP_RETRIES=0 UV_HTTP_TIMEOUT=5 "$uv" pip install --quiet --python "$python" \
            --dry-run --reinstall --no-deps --torch-backend=cpu -c "$pins" "${wanted[@]}"; then
            why='CPU build, as no GPU is here'
            local -x UV_TORCH_BACKEND=cpu
        else
            why='with CUDA, 3 GB: no GPU is here, but the index of CPU builds is out of reach'
        fi
    fi
    torch_is . || printf '%s ... ' "$why" >&3
    install "${wanted[@]}"
}

has() {
    compgen -G "$venv/lib/python3*/site-packages/$1-[0-9]*.dist-info" >/dev/null
}

# clear_mmcv OTHER...: mmcv and mmcv-lite own the same files, so both go before one of them comes.
clear_mmcv() {
    local other
    for other in "$@"; do
        if has "$other"; then
            uninstall mmcv mmcv-lite comad-bench-ops
            return
        fi
    done
}

# keep_one_opencv: the two builds overwrite each other's files, and one of them needs libGL.
keep_one_opencv() {
    local keep=opencv-python
    "$python" -I -c 'import ctypes; ctypes.CDLL("libGL.so.1")' || keep=opencv-python-headless
    if ! has "${keep//-/_}" || { has opencv_python && has opencv_python_headless; } ||
        ! "$python" -I -c 'import cv2'; then
        uninstall opencv-python opencv-python-headless
        install "$keep"
    fi
}

install_requirements() {
    local wanted
    mapfile -t wanted < <(ask requirements "$mmcv" ${extras//,/ })
    if compiles; then clear_mmcv mmcv_lite comad_bench_ops; else clear_mmcv mmcv; fi
    install "${wanted[@]}"
    keep_one_opencv
}

install_project() {
    local ours=(-e .)
    ! wants dense || compiles || ours+=(./ops)
    # As reinstalled, since uv does not see a change of the one file that ./ops packs.
    install --force-reinstall --no-deps --no-build-isolation "${ours[@]}"
}

# prove: the packages start, and mmcv's operators are right. uv leaves no bytecode; written here, it
# spares every later start that the user's own setting keeps from writing it some 6 s of compiling.
prove() {
    local what=core
    ! wants dense || what="ops $(devices)"
    proved=$("$python" -I tools/_environment.py $what)
    echo "$proved"
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
    local kind text what=core
    check_machine
    report note "GPUs: $(gpu_count); nvcc: $(nvcc --version 2>/dev/null | sed -n 's/.*release \([^,]*\),.*/\1/p' | grep . || echo none)"
    if [[ -x $python ]] && supported "$(python_version "$python")"; then
        while IFS=$'\t' read -r kind text; do report "$kind" "$text"; done \
            < <(ask diagnose "$torch" ${extras//,/ })
        ! wants dense || what="ops $(devices)"
        if text=$(ask $what 2>&1); then
            report ok "${text##*$'\n'}"
        else
            report missing "packages that run (${text##*$'\n'})"
        fi
    fi
    ((!problems)) || die "$problems missing; tools/setup.sh mends the environment, the rest is the machine's"
    echo 'all there'
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
! compiles || steps=6
# The stamp vouches for the environment, so it goes before the first change and comes back last.
known=
[[ $(stamped digest) != "$(digest 2>/dev/null)" ]] || known=$(stamped extras)
rm -f "$stamp"

step "environment $shown" make_environment
step "PyTorch${torch:+ $torch}" install_torch
step 'the other packages' install_requirements
if compiles; then
    step "mmcv: compiles its operators for $(devices), about $(build_minutes) minutes" compile_mmcv
fi
step 'the project, editable' install_project
step 'proof that all of it runs' prove
for extra in ${known//,/ }; do
    wants "$extra" || extras+=,$extra
done
build=default
! torch_is '+cpu' || build=cpu
printf '%s\n' "digest=$(digest)" "extras=$extras" "torch=$torch" "mmcv=$mmcv" "build=$build" \
    "devices=$(devices)" >"$stamp.new"
mv "$stamp.new" "$stamp"
(($(gpu_count) == 0)) || ! wants dense || [[ $proved == *cuda* ]] ||
    echo "note: there is a GPU; $proved"
echo "ready: $shown ($("$python" -I -V), extras $extras) after $SECONDS s"
