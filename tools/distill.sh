#!/usr/bin/env bash
# Distil a classifier with labels, on all GPUs here, else on the CPU. --help says more.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
need_python
exec "$python" -m comad.commands.distill "$@"
