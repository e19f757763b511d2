#!/usr/bin/env bash
# Train a config in several processes: one per GPU, or without GPUs one per CPU share. --help says more.

source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"
need_python
exec "$python" -c 'import sys; from comad.commands.distributed import train; sys.exit(train())' "$@"
