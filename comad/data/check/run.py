"""One check from the first folder to the manifest, files read and decoded in several processes."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backbones.files import write_text
from comad.data.check.ade20k import ADE20KCheck
from comad.data.check.cifar100 import CIFAR100Check
from comad.data.check.coco import COCOCheck
from comad.data.check.findings import DEEP, TURNED, Check, File, Findings, Inspected
from comad.data.check.imagenet import ImageNetCheck
from comad.data.check.video import VIDEO_CHECKS
from comad.data.decode import (
    DECODE_ERRORS,
    LABEL_MODES,
    first_line,
    is_16_bit,
    open_image,
    orientation_of,
)
from comad.data.manifest import MANIFEST, PROBLEMS, check_writable, digest_lines, write_manifest
from comad.data.pool import run_tasks
from comad.data.sample.digits import DIGITS
from comad.data.sample.layouts import wnid
from comad.data.sample.scenes import CLASSES
from comad.data.sample.write import SampleError, SampleSizes, find_fault, read_manifest
from comad.data.video import video_fault

SHOWN = 10
AT_ONCE = 32  # files per task of a process
CHECKS: dict[str, type[Check]] = {
    check.name: check
    for check in (ImageNetCheck, ADE20KCheck, COCOCheck, CIFAR100Check, *VIDEO_CHECKS)
}
# Of use, in our words, with the page that counts.
TERMS = {
    'imagenet': (
        'ImageNet is for non-commercial research and teaching; its images belong to others, and '
        'access is granted on request: https://image-net.org/download.php'
    ),
    'ade20k': (
        'ADE20K: images are for non-commercial research and teaching, annotations and software are '
        'under BSD-3-Clause: https://ade20k.csail.mit.edu/terms/'
    ),
    'coco': (
        "COCO: annotations are under CC BY 4.0, images under Flickr's terms and not COCO's to "
        'license: https://cocodataset.org/#termsofuse'
    ),
    'cifar100': (
        'CIFAR-100: its page states no licence and asks to cite the technical report; the images '
        'were collected from the web: https://www.cs.toronto.edu/~kriz/cifar.html'
    ),
    'kinetics400': (
        'Kinetics: the list of videos is under CC BY 4.0, the videos belong to those who put them '
        'on YouTube: https://github.com/cvdfoundation/kinetics-dataset'
    ),
    'ssv2': (
        'Something-Something V2 is for research, under the licence of its page: '
        'https://www.qualcomm.com/developer/software/something-something-v-2-dataset'
    ),
    'sample': (
        "The sample's patterns are drawn; its handwriting is the digits set that scikit-learn ships "
        'under BSD-3-Clause, '
        'from the UCI repository (CC BY 4.0): '
        'https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits'
    ),
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
        digest, names_digest: over all files, with and without their contents.
        manifest: the manifest that now describes the data, None if none was written.
        kept: an earlier full manifest was left as it is.
    """

    root: Path
    findings: Findings
    files: int
    size: int
    digest: str
    names_digest: str
    manifest: Path | None = None
    kept: bool = False

    def lines(self) -> list[str]:
        """The report: counts, notes, disk space and the first problems of each kind."""
        found = self.findings
        lines = [f'{name}: {number:,}' for name, number in found.counts.items()]
        lines += found.notes
        lines.append(f'disk: {self.size / 1e9:,.2f} GB in {self.files:,} files')
        for kind, listed in (*found.remarks.items(), *found.problems.items()):
            lines.append(f'{kind} ({len(listed):,}):')
            lines += [f'  {line}' for line in listed[:SHOWN]]
            if len(listed) > SHOWN:
                lines.append(f'  and {len(listed) - SHOWN:,} more')
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
    """Check a data set and write ``manifest.json``, and ``check.txt`` with all that was found.

    Nothing is written where there is no file of a data set.

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
    passed = _go_through(root, [check], workers, quick, progress)
    findings = passed.findings
    if not passed.files:
        return passed
    listed = [
        f'{kind}: {line}'
        for found in (findings.problems, findings.remarks)
        for kind, lines in found.items()
        for line in lines
    ]
    if listed:
        write_text(root / PROBLEMS, '\n'.join(listed) + '\n')
    else:
        (root / PROBLEMS).unlink(missing_ok=True)
    manifest = {
        'name': check.name,
        'problems': findings.total,
        'checks': findings.checks,
        'notes': findings.notes
        + [f'{kind}: {len(lines):,} files' for kind, lines in findings.remarks.items()],
        'counts': findings.counts,
        'files': passed.files,
        'bytes': passed.size,
        'content_hashed': not quick,
        'digest': passed.digest,
        'names_digest': passed.names_digest,
    }
    kept = not write_manifest(root, manifest)
    return replace(passed, manifest=root / MANIFEST, kept=kept)


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
    categories = {kind + 1: name for kind, name in enumerate(CLASSES)}
    wnids = [wnid(kind) for kind in range(len(CLASSES))]
    checks = [
        ImageNetCheck(root / 'imagenet', images, 'imagenet/', wnids),
        ADE20KCheck(root / 'ade', scenes, 'ade/', len(CLASSES) + 1),
        COCOCheck(root / 'coco', scenes, 'coco/', categories),
        CIFAR100Check(
            root / 'cifar-100-binary',
            {**images, 'classes': len(DIGITS), 'superclasses': 2},
            'cifar-100-binary/',
        ),
    ]
    passed = _go_through(root, checks, workers, quick, progress)
    if not quick and (fault := find_fault(root, seed, sizes)):
        passed.findings.add('not as written', f'{root}: {fault}')
    return passed


def _go_through(
    root: Path, checks: list[Check], workers: int, quick: bool, progress: Progress | None
) -> Outcome:
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
        if result.remark:
            findings.remarks.setdefault(result.remark, []).append(result.file.name)
        owners[result.file.name].look_at(result, findings)
    if quick:
        findings.notes.append('quick: no image was read, contents are not in the digest')
    else:
        findings.checks.append('every image decoded')
        for check in checks:
            check.finish(findings)
    for lines in (*findings.problems.values(), *findings.remarks.values()):
        lines.sort()
    names = digest_lines((name, size, None) for name, size, _ in entries)
    total = sum(size for _, size, _ in entries)
    return Outcome(root, findings, len(entries), total, digest_lines(entries), names)


def inspect_files(
    files: list[File],
    workers: int,
    quick: bool = False,
    progress: Progress | None = None,
) -> Iterator[Inspected]:
    """What is known of each file, in any order; of its bytes only the number if ``quick``."""
    function = _measure if quick else _inspect_all
    tasks = [files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE)]
    done = 0
    for results in run_tasks(function, tasks, 1 if quick else workers):
        yield from results
        done += len(results)
        if progress:
            progress(done, len(files))


def inspect(file: File) -> Inspected:
    """Hash and decode one file."""
    try:
        data = _read(file)
    except OSError as error:
        return Inspected(file, 0, error=f'cannot be read ({error.strerror or error})')
    known = Inspected(file, len(data), hashlib.sha256(data).hexdigest())
    if file.size is not None and len(data) != file.size:
        return known._replace(error=f'cut off ({len(data)} of {file.size} bytes)')
    if file.kind == 'other':
        return known
    if file.kind == 'video':
        return known._replace(error=video_fault(file.path))
    try:
        with warnings.catch_warnings(), open_image(data) as image:
            # Remarks on EXIF data and the like.
            warnings.simplefilter('ignore')
            image.load()
            known = known._replace(edges=image.size)
            if file.kind == 'labels':
                if image.mode not in LABEL_MODES:
                    return known._replace(error=f'mode {image.mode}, not class indices')
                values = np.asarray(image)
                known = known._replace(values=(int(values.min()), int(values.max())))
            elif is_16_bit(data):
                known = known._replace(remark=DEEP)
            elif orientation_of(image) != 1:
                known = known._replace(remark=TURNED)
    except DECODE_ERRORS as error:
        return known._replace(error=f'cannot be read as an image ({first_line(error)})')
    return known


def _inspect_all(files: list[File]) -> list[Inspected]:
    return [inspect(file) for file in files]


def _measure(files: list[File]) -> list[Inspected]:
    results = []
    for file in files:
        try:
            size = os.stat(file.path).st_size if file.size is None else file.size
            results.append(Inspected(file, size, error=None if size else 'an empty file'))
        except OSError as error:
            results.append(Inspected(file, 0, error=f'cannot be read ({error.strerror})'))
    return results


def _read(file: File) -> bytes:
    with open(file.path, 'rb') as stream:
        stream.seek(file.offset)
        return stream.read() if file.size is None else stream.read(file.size)
