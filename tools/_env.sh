# Shared by the shell tools, which source it first. It changes to the repository's root and defines
#   script, caller, root   the tool's own file, the directory the user called from, the repository
#   venv, python           the project's environment and, after `need_python`, its interpreter

set -euo pipefail

caller=$(pwd -P)
export COMAD_CALLER=${COMAD_CALLER:-$caller} # whence the Python tools take the paths that were typed
script=$(cd -- "$(dirname -- "$0")" >/dev/null && pwd -P)/$(basename -- "$0")
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd -P)
venv=${COMAD_VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$caller/$venv
[[ -z ${COMAD_VENV:-} ]] || export COMAD_VENV=$venv
dry_run=0
cd -- "$root"
# A second clone may share the environment: the code of this one comes first.
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The comment at the head of the tool is its help text.
show_help() {
    sed -n '2,/^$/s/^#\( \|$\)//p' "$script"
}

# parse_common ARGS...: --help and --dry-run work anywhere; what remains is left in `args`.
parse_common() {
    args=()
    local arg
    for arg in "$@"; do
        case $arg in
            -h | --help) show_help && exit 0 ;;
            --dry-run) dry_run=1 ;;
            *) args+=("$arg") ;;
        esac
    done
}

# need_python: the environment's interpreter, else the PATH's when mmengine is installed there.
need_python() {
    if [[ -x $venv/bin/python ]]; then
        python=$venv/bin/python
        return
    fi
    [[ -z ${COMAD_VENV:-} ]] || die "COMAD_VENV=$COMAD_VENV has no bin/python; tools/setup.sh makes it"
    python=$(command -v python3) || die 'no python3 on the PATH and no .venv; run tools/setup.sh first'
    "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("mmengine") is None)' \
        2>/dev/null || die "no .venv, and $python has no mmengine; run tools/setup.sh first"
}

# find_path WHAT PATH: prints PATH as the root sees it; PATH may be relative to caller or root.
find_path() {
    local base found
    for base in "$caller" "$root"; do
        [[ $2 == /* ]] && base=
        found=$base${base:+/}$2
        if [[ -e $found ]]; then
            found=$(cd -- "$(dirname -- "$found")" >/dev/null && pwd -P)/$(basename -- "$found")
            printf '%s\n' "${found#"$root"/}"
            return
        fi
    done
    die "$1 $2 not found, neither from $caller nor from $root"
}

# need_count NAME VALUE [MINIMUM]: VALUE must be a whole number of at least MINIMUM (1).
need_count() {
    [[ $2 =~ ^(0|[1-9][0-9]*)$ ]] && (($2 >= ${3:-1})) ||
        die "$1 is '$2'; a whole number of at least ${3:-1} is needed"
}

# gpu_count: the NVIDIA GPUs that this shell may use.
gpu_count() {
    local here listed
    here=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ') || true
    if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]] && ((here > 0)); then
        listed=${CUDA_VISIBLE_DEVICES//[^,]/}
        here=$((${#listed} + 1))
        [[ -n $CUDA_VISIBLE_DEVICES && $CUDA_VISIBLE_DEVICES != -1 ]] || here=0
    fi
    printf '%s\n' "$here"
}

# core_count: nproc without the OMP variables, which it would obey.
core_count() {
    env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN
}

# run COMMAND...: becomes the command; with --dry-run only prints it.
run() {
    if ((dry_run)); then
        [[ -z ${OMP_NUM_THREADS:-} ]] || printf 'OMP_NUM_THREADS=%s ' "$OMP_NUM_THREADS"
        printf '%q ' "$@"
        printf '\n'
        exit 0
    fi
    exec "$@"
}
