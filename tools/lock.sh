#!/usr/bin/env bash
# Write constraints.txt: every package that tools/setup.sh installs, in one version for each
# supported Python and system. Versions that still fit setup.cfg stay as they are.
#
#   tools/lock.sh [--check | options of `uv pip compile`]
#   tools/lock.sh                            # after a change to setup.cfg
#   tools/lock.sh --upgrade-package timm     # one newer package; --upgrade: all of them
#   tools/lock.sh --check                    # writes nothing, shows what it would change
#
# Whether a new set works, tools/setup.sh and tools/test.sh tell.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
lock=constraints.txt
case ${1:-} in
    -h | --help) show_help && exit 0 ;;
    --check)
        shift
        lock=$(mktemp)
        trap 'rm -f "$lock"' EXIT
        cp constraints.txt "$lock"
        ;;
esac
uv=$(type -P uv) || uv=$venv/bin/uv
[[ -x $uv ]] || die "no uv on the PATH or in $venv: run tools/setup.sh, or pip install uv"

# Beside the project's own needs: the installers, what compiling mmcv takes (its build imports
# pkg_resources, which setuptools 82 dropped), and OpenCV for machines without libGL.
export UV_CUSTOM_COMPILE_COMMAND=tools/lock.sh UV_PYTHON_DOWNLOADS=never
printf '%s\n' pip uv 'setuptools<82' ninja opencv-python-headless |
    "$uv" pip compile --quiet --universal --python-version 3.10 --no-annotate --all-extras \
        --output-file "$lock" "$@" setup.cfg -
[[ $lock == constraints.txt ]] || diff constraints.txt "$lock" ||
    die 'constraints.txt does not fit setup.cfg (< it has, > it needs); tools/lock.sh mends it'
