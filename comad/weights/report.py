"""Lines that reports on weight files share."""

from collections.abc import Iterable
from pathlib import Path

from backbones.checkpoints import files_behind, read_card
from backbones.files import digest_of
from backbones.student import CARD_FILE

# First digits of published md5 sums (official MAE repository) and the files they belong to.
PUBLISHED_MD5 = {'8cad7c': 'mae_pretrain_vit_base.pth', '1b25e9': 'mae_finetuned_vit_base.pth'}


def file_lines(path: Path) -> list[tuple[str, str]]:
    """Name, size and digests of a file, or of the parts of an index."""
    md5 = digest_of(path, 'md5')
    known = PUBLISHED_MD5.get(md5[:6])
    parts = files_behind(path)
    size = sum(part.stat().st_size for part in parts) / 2**20
    several = f' in {len(parts) - 1} files, digests of the index' if len(parts) > 1 else ''
    return [
        ('file', f'{path} ({size:,.1f} MiB{several})'),
        ('sha256', digest_of(path, 'sha256')),
        ('md5', md5 + (f' (begins as published for {known})' if known else '')),
    ]


def licence_of(path: Path, official: str) -> tuple[str, str]:
    """Licence of a file, and how that is known: what a pretraining has left has a card beside it.

    Args:
        path: Of the file.
        official: Of the official weights of its family.
    """
    card = path.with_name(CARD_FILE)
    if card.is_file():
        return str(read_card(card).get('licence') or 'not stated'), f'by {card}'
    return official, 'if these are the official weights'


def table(lines: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    return '\n'.join(f'{name:10} {value}' for name, value in lines)
