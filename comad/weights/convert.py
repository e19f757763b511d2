"""From any readable file to one plain safetensors file with a card."""

from pathlib import Path
from typing import Any

from backbones import CheckpointError
from backbones.checkpoints import write_safetensors
from backbones.families import FAMILIES
from backbones.files import sha256_of, write_json
from backbones.teachers import network_options
from comad.weights.inspect import Report, inspect_file
from comad.weights.report import licence_of
from comad.weights.student import StudentReport


def convert(source: str | Path, target: str | Path, family: str = 'auto') -> dict[str, Any]:
    """Write the used network's tensors, bit by bit, and ``<target>.json`` beside them.

    ``build_teacher`` reads the result with the same ``family``, or with ``auto`` by its card.

    Args:
        source: A weight file, or a directory with one.
        target: The new ``.safetensors`` file; an existing one is replaced.
        family: A name in ``FAMILIES``, or ``auto``.

    Returns:
        The card.

    Raises:
        CheckpointError: the source is not complete, or the target's name is no .safetensors.
    """
    target = Path(target)
    if target.suffix != '.safetensors':
        raise CheckpointError(f'{target}: the converted file is called *.safetensors')
    report = inspect_file(source, family)
    if not isinstance(report, Report):
        what = 'a student' if isinstance(report, StudentReport) else 'a network on video'
        raise CheckpointError(
            f'{report.path} is {what}, whose file is read as it is: there is nothing to convert'
        )
    if report.problem:
        raise CheckpointError(report.problem)
    digest = write_safetensors(target, report.used)
    rule = network_options(report.family, report.network, {})['pos_interpolation']
    card = dict(
        family=report.family,
        evidence=report.evidence,
        network=report.network.name,
        architecture=report.architecture | ({'num_heads': report.heads} if report.heads else {}),
        heads='assumed from the width' if report.heads else 'not told by the file',
        pos_interpolation=rule,
        licence=licence_of(report.path, FAMILIES[report.family].licence)[0],
        source=report.path.name,
        source_sha256=sha256_of(report.path),
        tensors=report.teacher.digest(),
        sha256=digest,
    )
    write_json(target.with_suffix('.json'), card)
    return card
