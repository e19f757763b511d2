"""Starting a run from options; user errors become one line on stderr."""

import os
import sys
import traceback
from dataclasses import asdict
from typing import Any

from comad.engine.console import warnings_to_log
from comad.engine.options import ConfigError, RunOptions
from comad.engine.preemption import (
    FAILED,
    PREEMPTED,
    REFUSED,
    Preempted,
    begin,
    is_finished,
    is_first_process,
    say,
    stop_request,
    write_finished,
)
from comad.engine.run_config import config_digest, load_run_config, use_multi_scale

TRACEBACK = 'COMAD_TRACEBACK'


def launch(options: RunOptions, checkpoint: str | None = None, test: bool = False) -> int:
    """Train (or test) and return the process's exit code.

    0: finished; 75: stopped on request, `--resume` goes on; 2: the config, data or weights do not
    allow the run, or the disk is full; 3: a running training failed for a known reason, told in one
    line. Anything else that fails in it raises.
    """
    try:
        if checkpoint:
            _check_there(checkpoint, 'a checkpoint of this config')
        cfg = load_run_config(options)
        trained_in, digest = cfg.work_dir, config_digest(cfg)
        if options.tta:
            use_multi_scale(cfg)
        if test and not checkpoint and cfg.get('train_cfg') is not None:
            _check_there(trained_in, 'a run to test: train it first, or name a checkpoint')
    except ConfigError as error:
        return _refuse(error)
    trains = not test and cfg.get('train_cfg') is not None
    digest = config_digest(cfg)
    if trains:
        if options.resume == 'auto' and is_finished(cfg.work_dir, digest):
            say(f'{cfg.work_dir} is finished: nothing to resume')
            return 0
        if is_first_process():
            begin(cfg.work_dir)
    try:
        if test and cfg.get('train_cfg') is not None:
            cfg.load_from = _checkpoint(trained_in, checkpoint)
        runner = _build(cfg, options, test)
        # What a saved step says about its run.
        runner.options = {**asdict(options), 'digest': digest}
    except _user_errors() as error:
        return _refuse(error)
    from comad.engine.runner import leave_groups

    try:
        if trains:
            with stop_request.listen():
                runner.train()
            if is_first_process():
                write_finished(cfg.work_dir, digest)
            leave_groups()
        else:
            runner.test()
    except Preempted as stop:
        say(str(stop))
        leave_groups()
        return PREEMPTED
    except _checkpoint_error() as error:
        return _refuse(error)
    except Exception as error:
        return _stop(error, runner)
    return 0


def launch_replay(options: RunOptions, bundle: str) -> int:
    """Compute a saved step again; 0: its loss is not finite again, 1: it is finite, 2: refused."""
    try:
        _check_there(bundle, 'nan_step<N>/ of a work dir')
        cfg = load_run_config(options)
        if cfg.get('train_cfg') is None:
            raise ConfigError('--replay: this config has no training')
        from comad.engine import register, replay  # noqa: F401

        return replay.replay(cfg, bundle)
    except ConfigError as error:  # told without torch, which the others take to be named
        return _refuse(error)
    except _user_errors() as error:
        return _refuse(error)


def _check_there(path: str, what: str) -> None:
    """Refuse a path of the command line before the seconds that importing torch takes."""
    if '://' not in str(path) and not os.path.exists(path):
        raise ConfigError(f'{path} does not exist; expected {what}')


def _checkpoint(work_dir: str, named: str | None) -> str:
    """The checkpoint to test: the one that was named, or the newest of the run."""
    from comad.engine.checkpoint_files import check_checkpoint, last_checkpoint

    if named and os.path.isfile(named):
        check_checkpoint(named)
    path = named or last_checkpoint(work_dir)
    if path is None:
        raise ConfigError(f'{work_dir} holds no checkpoint to test: train first, or name one')
    return str(path)


def _build(cfg: Any, options: RunOptions, test: bool) -> Any:
    warnings_to_log()
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner
    from mmengine.utils import import_modules_from_strings

    import comad.engine.register  # noqa: F401  (configs of others need not name it)
    from comad.engine.autocast import computes_in_bfloat16, device_type
    from comad.engine.run_data import check_classes

    if 'custom_imports' in cfg:  # parsing the config has left them out
        import_modules_from_strings(**cfg.custom_imports)

    if options.amp and 'optim_wrapper' in cfg and not computes_in_bfloat16(device_type()):
        sys.stderr.write('--amp: no hardware for bfloat16 here, training in float32\n')
        cfg.optim_wrapper.dtype = 'float32'
    kind = RUNNERS.get(cfg.get('runner_type', 'Runner')) or Runner
    runner = kind.from_cfg(cfg)
    # Loops build data sets and check their settings: here a mistake in them is still one line.
    if test or cfg.get('train_cfg') is None:
        runner._test_loop = runner.build_test_loop(runner._test_loop)
    else:
        runner._train_loop = runner.build_train_loop(runner._train_loop)
    if cfg.get('run'):
        loop = runner._test_loop if test or cfg.get('train_cfg') is None else runner._train_loop
        check_classes(cfg.model, loop.dataloader.dataset)
    return runner


def _checkpoint_error() -> type[Exception]:
    from backbones.checkpoints import CheckpointError

    return CheckpointError


def _user_errors() -> tuple[type[Exception], ...]:
    """What building from a wrong config raises in MMEngine's registries and our constructors."""
    return (
        ConfigError,
        _checkpoint_error(),
        TypeError,
        ValueError,
        KeyError,
        AssertionError,
        FileNotFoundError,
        ModuleNotFoundError,
        AttributeError,
    )


def _stop(error: Exception, runner: Any) -> int:
    """Say in one line why a running training failed, or raise what is not known."""
    from comad.engine.failures import RunStopped, explain

    text = explain(error, runner)
    if text is None or os.environ.get(TRACEBACK):
        raise error
    rank = os.environ.get('RANK', '0')
    if rank == '0' or not (isinstance(error, RunStopped) and error.agreed):
        where = '' if rank == '0' else f'process {rank}: '
        sys.stderr.write(f'error: {where}{text}\n')
    return FAILED


def _refuse(error: Exception) -> int:
    if os.environ.get(TRACEBACK):
        raise error
    if os.environ.get('RANK', '0') != '0':
        return REFUSED  # the first process says it for all
    sys.stderr.write(f'error: {_in_one_line(error)}\n')
    if not isinstance(error, (ConfigError, RuntimeError)):
        sys.stderr.write(f'({TRACEBACK}=1 shows where)\n')
    return REFUSED


def _in_one_line(error: Exception) -> str:
    """An error's message; one without words, as of an assertion, with the line that raised it."""
    text = ' '.join(str(error).split())
    if ' ' in text:
        return text
    raised = traceback.extract_tb(error.__traceback__)
    where = (
        f' in {raised[-1].filename}, line {raised[-1].lineno}: {raised[-1].line}' if raised else ''
    )
    return f'{type(error).__name__}{": " + text if text else ""}{where}'
