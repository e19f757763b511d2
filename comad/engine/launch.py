"""Starting a run from options; user errors become one line on stderr."""

import os
import sys
import traceback
from contextlib import nullcontext, suppress
from dataclasses import asdict
from typing import Any

from comad.engine.console import warnings_to_log
from comad.engine.lease import leased
from comad.engine.multi_scale import use_multi_scale
from comad.engine.options import AUTO, ConfigError, RunOptions
from comad.engine.preemption import (
    FAILED,
    LOST,
    PREEMPTED,
    REFUSED,
    Preempted,
    check_launcher,
    is_finished,
    is_first_process,
    say,
    stop_request,
    tell_outcome,
    write_finished,
)
from comad.engine.replaced import check_replaced, clear
from comad.engine.run_config import config_digest, load_run_config
from comad.engine.segments import settings
from comad.engine.slurm import seconds_left
from comad.runs.track import SAMPLE

TRACEBACK = 'COMAD_TRACEBACK'
START = 'start'  # see `BenchmarkRunner.phase`


def launch(options: RunOptions, checkpoint: str | None = None, test: bool = False) -> int:
    """Train (or test) and return the process's exit code.

    0: finished; 75: stopped on request, `--resume` goes on; 2: the config, data or weights do not
    allow the run, or the disk is full; 3: a running training failed for a known reason, told in one
    line; 4: likewise, and the reason may be gone at the next start. What is a fault of the code is
    raised.
    """
    status = 1
    try:
        status = _launch(options, checkpoint, test)
    finally:
        tell_outcome(status)
    return status


def _launch(options: RunOptions, checkpoint: str | None, test: bool) -> int:
    run = _Run(options)
    try:
        check_launcher(options.launcher)
        return run.test(checkpoint) if test else run.train()
    except Preempted as stop:
        say(str(stop))
        _wait_for_the_first()
        return PREEMPTED
    except Exception as error:
        return _tell(error, options, run.runner, run.cfg)
    finally:
        _leave_groups()


class _Run:
    """One start; ``runner`` is None until it has been built."""

    def __init__(self, options: RunOptions) -> None:
        self.options, self.cfg, self.runner = options, None, None

    def train(self) -> int:
        options = self.options
        cfg = self.cfg = load_run_config(options)
        if (note := (cfg.get('run') or {}).get('note')) and is_first_process():
            say(note)
        trains, digest = cfg.get('train_cfg') is not None, config_digest(cfg)
        if trains and options.resume == AUTO and is_finished(cfg.work_dir, digest):
            say(f'{cfg.work_dir} is finished: nothing to resume')
            return 0
        with leased(cfg.work_dir) if is_first_process() else nullcontext():
            if trains and not options.resume and is_first_process():
                check_replaced(cfg.work_dir, options.overwrite)
            decides = settings(cfg._cfg_dict.to_dict())  # building fills in what it leaves open
            self.runner = _build(cfg, options, test=False)
            if not trains:
                self.runner.test()
                return 0
            # What a saved step and a checkpoint say about their run.
            self.runner.options = {**asdict(options), 'digest': digest}
            self.runner.settings = decides
            if options.overwrite and not options.resume and is_first_process():
                clear(cfg.work_dir)
            with stop_request.listen(seconds_left() if is_first_process() else None):
                self.runner.train()
            if is_first_process():
                write_finished(cfg.work_dir, digest)
        return 0

    def test(self, checkpoint: str | None) -> int:
        if checkpoint:
            _check_there(checkpoint, 'a checkpoint of this config')
        cfg = self.cfg = load_run_config(self.options)
        if not cfg.get('test_cfg'):
            raise ConfigError(
                f'{self.options.config} has no test: a pretraining is judged by transfers, '
                'cls_configs/, seg_configs/ and det_configs/'
            )
        trained_in = cfg.work_dir
        if self.options.tta:
            use_multi_scale(cfg)
        if cfg.get('train_cfg') is not None:
            if not checkpoint:
                _check_there(trained_in, 'a run to test: train it first, or name a checkpoint')
            cfg.load_from = _checkpoint(trained_in, checkpoint)
        self.runner = _build(cfg, self.options, test=True)
        self.runner.test()
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
    except Exception as error:
        return _tell(error, options, None)


def _check_there(path: str, what: str) -> None:
    """Refuse a path of the command line before the seconds that importing torch takes."""
    if '://' in str(path):
        raise ConfigError(f'{path} is no file here: download it, then name the file')
    if not os.path.exists(path):
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
    from comad.engine.config_check import check_config
    from comad.engine.run_data import check_data

    if 'custom_imports' in cfg:  # parsing the config has left them out
        import_modules_from_strings(**cfg.custom_imports)

    if options.amp and 'optim_wrapper' in cfg and not computes_in_bfloat16(device_type()):
        sys.stderr.write('--amp: no hardware for bfloat16 here, training in float32\n')
        cfg.optim_wrapper.dtype = 'float32'
    check_config(cfg)
    kind = RUNNERS.get(cfg.get('runner_type', 'Runner')) or Runner
    runner = kind.from_cfg(cfg)
    # Loops build data sets and check their settings: here a mistake in them is still one line.
    if test or cfg.get('train_cfg') is None:
        runner._test_loop = runner.build_test_loop(runner._test_loop)
    else:
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        if runner._val_loop is not None:
            runner._val_loop = runner.build_val_loop(runner._val_loop)
    check_data(runner)
    return runner


def _wait_for_the_first() -> None:
    """Let no process end before the first has spoken for all: torchrun ends the others with it."""
    from mmengine.dist import barrier

    with suppress(RuntimeError):  # of one that has gone already
        barrier()


def _leave_groups() -> None:
    """Close the process groups, if anything has opened one: their threads must not outlive it."""
    if 'torch' in sys.modules:
        from comad.engine.group import leave

        leave()


def _tell(error: Exception, options: RunOptions, runner: Any, cfg: Any = None) -> int:
    """Say in one line what of command, config, data or machine failed; a fault of ours is raised.

    Until the first step the command is taken to be wrong, and any error is one line. That step and
    the first validation fail by what the user has brought, if it is anything.
    """
    if isinstance(error, ConfigError) or os.environ.get(TRACEBACK):
        return _refuse(error)
    # With torch, which a refusal must not wait for.
    from backbones.checkpoints import CheckpointError
    from comad.engine.failures import explain, place_of, raised_on_purpose

    if isinstance(error, CheckpointError):
        return _refuse(error)
    phase = START if runner is None else getattr(runner, 'phase', '')
    if explain(error, runner) is not None:
        return _stop(error, runner)
    if phase == START:
        key, place = place_of(error, cfg)
        given = {k: v for k, v in options.cfg_options.items() if key and k.startswith(f'{key}.')}
        return _refuse(error, place + _worded(given), raised_on_purpose(error))
    if raised_on_purpose(error):
        return _stop(error, runner, f'{phase}: {_in_one_line(error)}'.removeprefix(': '))
    if phase and (options.cfg_options or options.track != SAMPLE):
        return _stop(error, runner, f'{phase}{_worded(options.cfg_options)}: {_named(error)}')
    raise error


def _stop(error: Exception, runner: Any, text: str | None = None) -> int:
    """Say in one line why a run failed, or raise what is not known.

    What all processes have agreed on, the first one says.
    """
    from comad.engine.failures import Passing, RunStopped, explain

    text = text or explain(error, runner)
    if text is None or os.environ.get(TRACEBACK):
        raise error
    rank = '0' if is_first_process() else os.environ.get('RANK', os.environ.get('SLURM_PROCID'))
    agreed = isinstance(error, RunStopped) and error.agreed
    if rank == '0' or not agreed:
        where = '' if rank == '0' else f'process {rank}: '
        sys.stderr.write(f'error: {where}{text}\n')
    if agreed:
        _wait_for_the_first()
    return LOST if isinstance(text, Passing) else FAILED


def _worded(options: dict[str, Any]) -> str:
    given = ' '.join(f'{key}={value}' for key, value in options.items())
    return f' with --cfg-options {given}' if given else ''


def _refuse(error: Exception, place: str = '', complete: bool = False) -> int:
    """Say in one line why nothing is run; the first process says it for all.

    Args:
        place: What was being built.
        complete: Whether the message was written for users.
    """
    if os.environ.get(TRACEBACK):
        raise error
    if not is_first_process():
        return REFUSED
    complete = complete or isinstance(error, (ConfigError, RuntimeError))
    text = _in_one_line(error) if complete else _named(error)
    sys.stderr.write(f'error: {f"{place}: ".removeprefix(": ")}{text}\n')
    if not complete:
        sys.stderr.write(f'({TRACEBACK}=1 shows where)\n')
    return REFUSED


def _named(error: Exception) -> str:
    """The same, led by its kind, which the words of others may need."""
    text, kind = _in_one_line(error), type(error).__name__
    return text if text.startswith(kind) else f'{kind}: {text}'


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
