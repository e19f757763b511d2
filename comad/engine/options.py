"""What the command line says of a run, each option stated once; imports no torch or MMEngine."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

from comad.runs.place import FILES, get_track, typed, worded
from comad.runs.track import FULL, SAMPLE, track_names

AUTO = 'auto'


class ConfigError(ValueError):
    """A config, option or path that no run can start with; the message is one line."""


class KeyValues(argparse.Action):
    """KEY=VALUE words as a dictionary, values read by MMEngine's own `DictAction`.

    MMEngine is imported only where such an option is given: it takes longer than any ``--help``.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        for word in values or ():
            if not word.partition('=')[0] or '=' not in word:
                parser.error(f'{option_string} {word}: expected KEY=VALUE')
        # Before MMEngine, beside which it would register its networks, and that takes torch.
        import_module('backbones')
        from mmengine.config import DictAction

        try:
            DictAction(self.option_strings, self.dest, nargs='+')(parser, namespace, values)
        except AssertionError as error:  # brackets that do not match
            parser.error(f'{option_string}: {error}')


def _option(default: Any, text: str, **settings: Any) -> Any:
    """A field of `RunOptions`: its default, its help, and what else argparse is told."""
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=dict(settings, help=text, default={}))
    return field(default=default, metadata=dict(settings, help=text, default=default))


def _named_file(text: str) -> str:
    """``NAME=FILE`` with the file as seen from the home; anything else as it is."""
    name, equals, file = text.partition('=')
    return f'{name}={typed(file)}' if equals and file else text


@dataclass(frozen=True)
class RunOptions:
    """Options of train.py and test.py; from them come the parsers and the command of a report."""

    config: str
    track: str = _option(FULL, '')  # see `add_track`
    data: str | None = _option(
        None,
        "data of one's own instead of the config's: a folder, a list of paths, a CSV path,label, a "
        'COCO file; its rows have tables of their own (docs/own_data.md)',
        type=typed,
        metavar='PATH',
    )
    seed: int = _option(0, 'seed of this run (default 0)')
    student: str | None = _option(
        None,
        'transfers: another student, e.g. mae_tiny, or comad_tiny:1 for pretraining seed 1',
        metavar='NAME[:SEED]',
    )
    work_dir: str | None = _option(
        None, 'default: work_dirs/[TRACK/]<kind>/<student>/seed<N>', type=typed
    )
    resume: str | None = _option(
        None,
        'continue from the newest complete checkpoint of the work dir ("auto", the default; '
        'without one from the beginning; nothing to do for a finished run), or from CHECKPOINT',
        nargs='?',
        const=AUTO,
        type=lambda text: text if text == AUTO else typed(text),
        metavar='CHECKPOINT',
    )
    extend: bool = _option(
        False,
        'with --resume: go on with another length, or another schedule of the learning rate, than '
        'the checkpoint was trained with; the rates are those of the new one from there on',
    )
    overwrite: bool = _option(
        False, 'replace a finished run of the work dir; what goes is said before it is removed'
    )
    amp: bool = _option(False, 'bfloat16 mixed precision, on CPUs too where the hardware has it')
    auto_scale_lr: bool = _option(
        False, "scale the learning rate with the total batch relative to the recipe's"
    )
    accumulate: int = _option(
        1,
        'one optimizer step per N batches, so that N times fewer GPUs keep the recipe',
        metavar='N',
    )
    launcher: str | None = _option(
        None,
        'what started the processes; the shell tools say it; "none" for runs of their own',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
    )
    tta: bool = _option(
        False, 'segmentation: average over several scales and flips; the record is one of its own'
    )
    compute_of: str | None = _option(
        None,
        "pretraining: as many epochs as cost FACTOR times that student's finished run, e.g. "
        'comad_tiny:4; the student is then called <method>_equal<FACTOR>_<arch>',
        metavar='STUDENT:FACTOR',
    )
    teachers: list[str] | None = _option(
        None,
        'pretraining with CoMAD or DMT: other teachers, a family or timm name each and its file, '
        'e.g. mae=FILE dinov3_vitb16=FILE siglip2=DIR',
        type=_named_file,
        nargs='+',
        metavar='NAME=FILE',
    )
    student_arch: str | None = _option(
        None, 'pretraining: another student, e.g. small, resnet18 or convnext_atto', metavar='ARCH'
    )
    cfg_options: dict[str, Any] = _option(
        {},
        'override config keys, e.g. optim_wrapper.optimizer.lr=1e-4',
        nargs='+',
        action=KeyValues,
        metavar='KEY=VALUE',
    )


COMMON = ('track', 'data', 'seed', 'student', 'work_dir', 'cfg_options', 'launcher')
# What belongs to one start, or to tests, and not to a command that repeats a step.
OF_ONE_START = ('config', 'resume', 'extend', 'overwrite', 'launcher', 'tta')


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Give a parser the options of these names."""
    for entry in (RunOptions.__dataclass_fields__[name] for name in names):
        if entry.name == 'track':
            add_track(parser)
            continue
        settings = dict(entry.metadata)
        if entry.type is bool:
            settings['action'] = 'store_true'
        elif entry.type is int:
            settings['type'] = _count
        parser.add_argument(_flag(entry.name), **settings)
    if 'launcher' in names:  # torchrun and older launchers pass it; the environment decides
        hidden = argparse.SUPPRESS
        parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=hidden)


def add_track(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Give a parser ``--track`` and its short form for the embedded sample."""
    names = ', '.join(track_names(FILES))
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        '--track',
        type=_track,
        metavar='NAME',
        help=f'data, sizes, lengths: {names} (default {FULL}); each has tables of its own',
        **({'default': FULL} | settings),
    )
    either.add_argument(
        '--sample',
        dest='track',
        action='store_const',
        const=SAMPLE,
        help='the embedded sample, short for --track sample',
        **settings,
    )


def run_options(args: argparse.Namespace) -> RunOptions:
    """The options among a parser's results."""
    names = RunOptions.__dataclass_fields__
    return RunOptions(**{key: value for key, value in vars(args).items() if key in names})


def command_of(options: dict[str, Any]) -> str:
    """The train.py command with these options (`RunOptions` as a dictionary), without --resume."""
    words = [*worded('python tools/train.py').split(), str(options.get('config', 'CONFIG'))]
    for entry in fields(RunOptions):
        value = options.get(entry.name)
        if entry.name in OF_ONE_START or value in (None, entry.metadata['default']):
            continue
        if entry.name == 'track':
            words += get_track(value).option.split()
            continue
        words.append(_flag(entry.name))
        if isinstance(value, dict):
            words += [f'{key}={item}'.replace(' ', '') for key, item in value.items()]
        elif isinstance(value, list):
            words += value
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)


def _track(text: str) -> str:
    """The name of a track that is there."""
    try:
        return get_track(text).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    """A whole number that is not negative, as seeds and counts are."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number from 0 to 2^32 - 1')
    return int(text)


def _flag(name: str) -> str:
    return '--' + name.replace('_', '-')
