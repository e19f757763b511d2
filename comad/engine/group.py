"""The process group of a run: how it is opened, and how long its processes wait for each other."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from comad.engine.options import ConfigError
from comad.engine.slurm import is_known, place_of_task

# Seconds. Longer than what one process does for all, such as computing COCO's figures.
TIMEOUT = 600


def time_limit(env_cfg: Mapping[str, Any]) -> timedelta:
    """After which a process that does not answer has hung: ``dist_cfg.timeout`` in seconds."""
    return timedelta(seconds=(env_cfg.get('dist_cfg') or {}).get('timeout') or TIMEOUT)


def join(launcher: str, env_cfg: Mapping[str, Any]) -> None:
    """Open the group of torchrun's or Slurm's processes: gloo on CPUs, else the config's.

    MMEngine's own takes no time limit on CPUs, wants a GPU of Slurm, and takes a task that sees
    only its own one for the owner of a second.

    Raises:
        ConfigError: the first process's machine is not known here, or a GPU is missing.
    """
    gpus = torch.cuda.device_count()
    if launcher == 'slurm':
        os.environ.update(place_of_task(os.environ, gpus))
    if not is_known(address := os.environ['MASTER_ADDR']):
        raise ConfigError(
            f'{address} (the first process of this run) is no machine that is known here: set '
            'MASTER_ADDR to a name or address that is'
        )
    if gpus:
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    backend = (env_cfg.get('dist_cfg') or {}).get('backend', 'nccl') if gpus else 'gloo'
    torch.distributed.init_process_group(backend, timeout=time_limit(env_cfg))


def leave() -> None:
    """Close the process groups, if there are any."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
