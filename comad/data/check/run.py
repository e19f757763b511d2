"""One check from the first folder to the manifest."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from comad.data.check.ade20k import ADE20KCheck
from comad.data.check.coco import COCOCheck
from comad.data.check.findings import Check, File, Findings
from comad.data.check.imagenet import ImageNetCheck
from comad.data.check.inspect import inspect_files
from backbones.files import write_text
from comad.data.sample.layouts import wnid
from comad.data.manifest import MANIFEST, check_writable, digest_lines, write_manifest
from comad.data.sample.write import SampleError, SampleSizes, find_fault, read_manifest
from comad.data.sample.scenes import CLASSES

PROBLEMS = 'check.txt'
SHOWN = 10
CHECKS: dict[str, type[Check]] = {
    check.name: check for check in (ImageNetCheck, ADE20KCheck, COCOCheck)
}
ROOTS = {
    'imagenet': 'data/imagenet',
    'ade20k': 'data/ade/ADEChallengeData2016',
    'coco': 'data/coco',
    'sample': 'data/sample',
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """Result of a check.

    Args:
        root: folder that was checked.
        findings: problems, notes, counts.
        files: number of files.
        size: of all files in bytes.
        manifest: the manifest that now describes the data, None if none was written.
        kept: an earlier full manifest was left as it is.
    """

    root: Path
    findings: Findings
    files: int
    size: int
    manifest: Path | None
    kept: bool = False

    def lines(self) -> list[str]:
        """The report: counts, notes, disk space and the first problems of each kind."""
        found = self.findings
        lines = [f'{name}: {number:,}' for name, number in found.counts.items()]
        lines += found.notes
        lines.append(f'disk: {self.size / 1e9:,.2f} GB in {self.files:,} files')
        for kind, problems in found.problems.items():
            lines.append(f'{kind} ({len(problems):,}):')
            lines += [f'  {line}' for line in problems[:SHOWN]]
            if len(problems) > SHOWN:
                lines.append(f'  and {len(problems) - SHOWN:,} more')
        return lines

    def summary(self) -> str:
        """One line for problems, or for their absence."""
        total, kinds = self.findings.total, self.findings.problems
        if total:
            listed = f'; all in {self.root / PROBLEMS}' if self.manifest else ''
            word = 'problem' if total == 1 else 'problems'
            return f'{self.root}: {total:,} {word} ({", ".join(kinds)}){listed}'
        kept = ', kept from a full check of the same names and sizes' if self.kept else ''
        cited = self.manifest or self.root / MANIFEST
        return f'{self.root}: no problems; {cited}{kept}'


def check_dataset(
    check: Check, workers: int = 1, quick: bool = False, progress: Progress | None = None
) -> Outcome:
    """Check a data set and write ``manifest.json``, and ``check.txt`` with all problems if any.

    Args:
        check: of the data set.
        workers: processes that decode.
        quick: look at names and sizes, do not read images.
        progress: called with files done and files in all.

    Raises:
        FileNotFoundError: there is no such folder.
        PermissionError: the manifest cannot be written there.
        FileExistsError: another program's manifest.json is there.
        ValueError: the folder belongs to the embedded sample.
    """
    root = check.root
    if not root.is_dir():
        raise FileNotFoundError(f'{root}: no such folder; expected {check.layout}')
    check_writable(root)
    if not os.access(root, os.W_OK):
        raise PermissionError(
            f'{root}: {MANIFEST} cannot be written there; check a folder of links to it instead'
        )
    passed = _go_through([check], workers, quick, progress)
    findings = passed.findings
    problems = [f'{kind}: {line}' for kind, lines in findings.problems.items() for line in lines]
    if problems:
        write_text(root / PROBLEMS, '\n'.join(problems) + '\n')
    else:
        (root / PROBLEMS).unlink(missing_ok=True)
    manifest = {
        'name': check.name,
        'problems': findings.total,
        'checks': findings.checks,
        'notes': findings.notes,
        'counts': findings.counts,
        'files': passed.files,
        'bytes': passed.size,
        'content_hashed': not quick,
        'digest': passed.digest,
        'names_digest': passed.names_digest,
    }
    kept = not write_manifest(root, manifest)
    return Outcome(root, findings, passed.files, passed.size, root / MANIFEST, kept)


def check_sample(
    root: str | Path, workers: int = 1, quick: bool = False, progress: Progress | None = None
) -> Outcome:
    """Verify the embedded sample against its own manifest; writes nothing.

    Raises:
        FileNotFoundError: there is no sample.
    """
    root = Path(root)
    try:
        manifest = read_manifest(root)
        sizes = SampleSizes(**manifest['images'])
        seed = manifest['seed']
    except (SampleError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, SampleError) else f'its {MANIFEST} is malformed'
        raise FileNotFoundError(
            f'{root}: no sample ({reason}); write it with: python tools/data.py sample'
        ) from error
    splits = {'train': (sizes.imagenet_train, sizes.scenes_train)}
    splits['val'] = (sizes.imagenet_val, sizes.scenes_val)
    images = {f'{split} images': numbers[0] for split, numbers in splits.items()}
    scenes = {f'{split} images': numbers[1] for split, numbers in splits.items()}
    categories = {digit + 1: name for digit, name in enumerate(CLASSES)}
    wnids = [wnid(digit) for digit in range(len(CLASSES))]
    checks = [
        ImageNetCheck(root / 'imagenet', images, 'imagenet/', wnids),
        ADE20KCheck(root / 'ade', scenes, 'ade/', len(CLASSES) + 1),
        COCOCheck(root / 'coco', scenes, 'coco/', categories),
    ]
    passed = _go_through(checks, workers, quick, progress)
    if not quick and (fault := find_fault(root, seed, sizes)):
        passed.findings.add('not as written', f'{root}: {fault}')
    return Outcome(root, passed.findings, passed.files, passed.size, None)


@dataclass(frozen=True)
class _Passed:
    findings: Findings
    digest: str
    names_digest: str
    files: int
    size: int


def _go_through(
    checks: list[Check], workers: int, quick: bool, progress: Progress | None
) -> _Passed:
    findings = Findings()
    owners: dict[str, Check] = {}
    files: list[File] = []
    for check in checks:
        listed = check.list_files(findings)
        files += listed
        owners.update((file.name, check) for file in listed)
    entries = []
    for result in inspect_files(files, workers, quick, progress):
        entries.append((result.file.name, result.size, result.sha256))
        if result.error:
            findings.add('damaged file', f'{result.file.name}: {result.error}')
        owners[result.file.name].look_at(result, findings)
    if quick:
        findings.notes.append('quick: no image was read, contents are not in the digest')
    else:
        findings.checks.append('every image decoded')
        for check in checks:
            check.finish(findings)
    for lines in findings.problems.values():
        lines.sort()
    names = digest_lines((name, size, None) for name, size, _ in entries)
    return _Passed(
        findings, digest_lines(entries), names, len(entries), sum(size for _, size, _ in entries)
    )
