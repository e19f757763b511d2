"""Files that are there completely or not at all, their digests, and JSON. Imports no torch."""

import errno
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

BLOCK = 1 << 20
HALF_CHARACTER = re.compile(rb'\\u[dD][89a-fA-F]')  # one of two, as JSON writes emojis


def one_line(error: BaseException) -> str:
    """An error in one line; of the system's the file and the fault, without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f'{os.fsdecode(error.filename)}: {error.strerror[0].lower()}{error.strerror[1:]}'
    return ' '.join(str(error).split())


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its name when the block ends well.

    Either the old or the complete new file is found under ``path`` at any moment, also after a
    power cut: file and folder are synced. The folder is created. The mode is the one that any new
    file gets under the process's umask, whatever filled the temporary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Other machines have processes of the same number.
    temporary = path.with_name(f'.{path.name}.{socket.gethostname()}.{os.getpid()}.tmp')
    try:
        temporary.unlink(missing_ok=True)  # of a killed process with the same number
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        with open(temporary, 'rb') as handle:
            os.fsync(handle.fileno())
        # A writer may have put its own file there: safetensors' can be read by its owner only.
        if temporary.stat().st_mode & 0o777 != mode:
            temporary.chmod(mode)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """`atomic_path`, opened for writing bytes."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        yield file


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8 atomically; bytes of file names that are no UTF-8 survive."""
    with atomic_file(path) as file:
        file.write(text.encode('utf-8', errors='surrogateescape'))


def write_json(path: str | os.PathLike[str], content: Any, **options: Any) -> None:
    """Write JSON atomically; ``options`` of ``json.dumps``, by default two spaces of indent.

    Raises:
        ValueError: a number that is not finite.
    """
    write_text(path, json.dumps(content, **{'indent': 2, 'allow_nan': False} | options) + '\n')


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else, in one line that names the file.
    """
    content = parse_json(path)
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, not a JSON object')
    return content


def parse_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds; text that no file could hold again is refused.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, in one line that names the file.
    """
    data = Path(path).read_bytes()
    try:
        content = json.loads(data)
        if HALF_CHARACTER.search(data):
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    return content


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hex sha256 of a file's bytes."""
    return digest_of(path, 'sha256')


def digest_of(path: str | os.PathLike[str], algorithm: str) -> str:
    """Hex digest of a file's bytes by one of hashlib's algorithms."""
    digest = hashlib.new(algorithm)
    with open(path, 'rb') as handle:
        while block := handle.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot sync a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
