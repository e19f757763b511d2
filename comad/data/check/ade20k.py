"""Check of ADE20K as of the scene parsing challenge 2016."""

from pathlib import Path

from comad.data.check.findings import Check, File, Findings, Inspected, list_names

SPLITS = {'train': 'training', 'val': 'validation'}


class ADE20KCheck(Check):
    """Pairs of images and labels, counts, sizes, label values.

    Args:
        root, expected, prefix: see `Check`. ADEChallengeData2016 may also lie below ``root``.
        classes: labels run from 0 (none of them) to this number.
    """

    name = 'ade20k'
    official = {'train images': 20_210, 'val images': 2000}
    layout = 'images and annotations, each with training and validation'

    def __init__(
        self,
        root: str | Path,
        expected: dict[str, int] | None = None,
        prefix: str = '',
        classes: int = 150,
    ) -> None:
        below = Path(root) / 'ADEChallengeData2016'
        super().__init__(below if below.is_dir() else root, expected, prefix)
        self.classes = classes
        self.edges: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}

    def list_files(self, findings: Findings) -> list[File]:
        findings.checks += ['folders', 'counts', 'pairs of image and labels']
        files: list[File] = []
        for split, name in SPLITS.items():
            images = self._list('images', name, '.jpg', 'image', findings)
            labels = self._list('annotations', name, '.png', 'labels', findings)
            if images is not None:
                self.count(findings, f'{split} images', len(images))
            if images is not None and labels is not None:
                for stem in sorted(images.keys() - labels.keys()):
                    line = f'{images[stem].name}: no annotations/{name}/{stem}.png'
                    findings.add('missing labels', line)
                for stem in sorted(labels.keys() - images.keys()):
                    line = f'{labels[stem].name}: no images/{name}/{stem}.jpg'
                    findings.add('missing image', line)
            files += [*(images or {}).values(), *(labels or {}).values()]
        return files

    def _list(
        self, kind: str, split: str, suffix: str, read_as: str, findings: Findings
    ) -> dict[str, File] | None:
        folder = self.folder(findings, f'{kind}/{split}')
        if folder is None:
            return None
        names = list_names(folder, (suffix,))
        return {
            Path(name).stem: File(
                f'{self.prefix}{kind}/{split}/{name}', str(folder / name), read_as
            )
            for name in names
        }

    def look_at(self, result: Inspected, findings: Findings) -> None:
        if result.edges is None:
            return
        path = Path(result.file.path)
        self.edges.setdefault((path.parent.name, path.stem), {})[result.file.kind] = result.edges
        if result.values is not None and result.values[1] > self.classes:
            findings.add(
                'label value',
                f'{result.file.name}: holds {result.values[1]}, expected 0 to {self.classes}',
            )

    def finish(self, findings: Findings) -> None:
        findings.checks += ['sizes of image and labels', 'label values']
        for (split, stem), edges in sorted(self.edges.items()):
            if len(edges) == 2 and edges['image'] != edges['labels']:
                image, labels = ('x'.join(map(str, edges[kind])) for kind in ('image', 'labels'))
                line = f'{self.prefix}annotations/{split}/{stem}.png: {labels}, its image {image}'
                findings.add('size', line)
