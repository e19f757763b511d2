"""Where things lie: the suite's own files, the folder that commands work in, runs and results.

Configs and published figures come with the code: in a checkout beside it, in an installed package
inside it. Data, teachers, runs and results lie in the *home*: ``COMAD_HOME``, else the checkout,
else the current directory of whoever has installed the package. Every command changes to the home
first, so their paths are relative to it; paths that a user types are taken from where they were
typed.
"""

import os
import re
import sys
from pathlib import Path, PurePosixPath

from comad.runs.track import Track, load_track, track_names

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent
IS_CHECKOUT = (_CHECKOUT / 'tools' / 'train.py').is_file()
# Holds the config folders and results/published*.csv.
FILES = _CHECKOUT if IS_CHECKOUT else _PACKAGE / 'files'
PUBLISHED_CSV = FILES / 'results' / 'published.csv'
HOME, CALLER = 'COMAD_HOME', 'COMAD_CALLER'
RESULTS = Path('results')
OWN, ON = 'own', '_on_'  # below either; in names of runs on data of one's own


def home() -> Path:
    """The folder of data, teachers, runs and results.

    Raises:
        NotADirectoryError: ``COMAD_HOME`` names no folder.
    """
    named = os.environ.get(HOME)
    if not named:
        return _CHECKOUT if IS_CHECKOUT else Path.cwd()
    path = Path(os.environ.get(CALLER) or '.', named)
    if not path.is_dir():
        raise NotADirectoryError(f'{HOME}={named} is no folder; make it, or name another one')
    return path.resolve()


def enter_home() -> None:
    """Change to the home; `typed` still knows where the command was typed.

    Both are handed on to child processes. Without a home the command ends with one line.
    """
    os.environ.setdefault(CALLER, os.getcwd())
    try:
        os.environ[HOME] = str(home())
    except OSError as error:
        sys.stderr.write(f'error: {error}\n')
        raise SystemExit(2) from None
    os.chdir(os.environ[HOME])


def typed(path: str) -> str:
    """A path of the command line as seen from the home.

    A relative one starts where the user typed it, or, if it exists only there, at the home.
    """
    if '://' in path or os.path.isabs(path):
        return path
    here, there = os.environ.get(CALLER) or os.getcwd(), str(home())
    base = there if not os.path.exists(os.path.join(here, path)) else here
    if not os.path.exists(os.path.join(base, path)):
        base = here
    return seen_from_home(os.path.normpath(os.path.join(base, path)))


def seen_from_home(path: str | Path) -> str:
    """An absolute path, shortened if it lies below the home."""
    inside = Path(path).is_relative_to(home())
    return str(Path(path).relative_to(home())) if inside else str(path)


def find_config(text: str) -> str:
    """The config that a user means: a path, one among the suite's files, or a leaf's bare name."""
    path = typed(text)
    if os.path.exists(path):
        return path
    stem = Path(text).stem
    for found in (FILES / text, *sorted(FILES.glob(f'*_configs/{stem}.py'))):
        if found.is_file() and (found == FILES / text or Path(text).parent == Path('.')):
            return seen_from_home(found)
    return path


def worded(text: str) -> str:
    """``text`` with the commands as they are typed here: ``python tools/train.py``, or where the
    suite is installed ``comad-train``."""
    if IS_CHECKOUT:
        return text
    text = re.sub(
        r'tools/setup\.sh(?: --extras (\w+))?',
        lambda found: f"pip install 'comad-bench[{found[1] or 'dense'}]'",
        text,
    )
    return re.sub(
        r'(?:python |bash )?tools/(\w+)\.(?:py|sh)',
        lambda found: 'comad-' + found[1].replace('_', '-'),
        text,
    )


def get_track(name: str) -> Track:
    """The track of that name; errors as `comad.runs.track.load_track`."""
    return load_track(name, FILES)


def results_folder(track: str, data: str = '') -> Path:
    """Folder of a track's tables, of ``data`` of one's own where they are named; records lie in
    ``records/`` below it."""
    folder = RESULTS / get_track(track).folder
    return folder / OWN / data if data else folder


def results_of_code(folder: Path) -> bool:
    """Whether a folder of tables is the one that comes with a checkout."""
    return IS_CHECKOUT and folder.resolve() == FILES / RESULTS


def record_folders() -> tuple[Path, ...]:
    """Folders of records of all tracks."""
    return tuple(results_folder(name) / 'records' for name in track_names(FILES))


def own_method(method: str, data: str) -> str:
    """Name of a method that is trained on data of one's own."""
    return f'{method}{ON}{data}'


def split_own(method: str) -> tuple[str, str]:
    """``comad_on_photos`` -> ``comad`` and ``photos``; no data for one trained on ImageNet."""
    method, _, data = method.partition(ON)
    return method, data


def equal_method(method: str, factor: int) -> str:
    """Name of a method that is trained on a budget of ``factor`` reference runs."""
    return f'{method}_equal{factor}'


def split_equal(method: str) -> tuple[str, int]:
    """``dmt_equal4`` -> ``dmt`` and 4; factor 0 for a method of its own length."""
    match = re.fullmatch(r'(.+)_equal(\d+)', method)
    return (match[1], int(match[2])) if match else (method, 0)


def runs_folder(track: str) -> Path:
    """Folder of a track's runs."""
    return Path('work_dirs') / get_track(track).folder


def pretrain_root(track: str) -> str:
    """Folder of the pretraining runs."""
    return str(runs_folder(track) / 'pretrain')


def pretrain_dir(track: str, student: str, seed: int) -> Path:
    """Folder of one pretraining run, which holds its student."""
    return Path(pretrain_root(track)) / student / f'seed{seed}'


def folder_below(root: Path, place: str | Path | None) -> Path | None:
    """The folder of that name below ``root``, None where it is not there.

    What a record names must not lead out of the project's folder; a linked work_dirs is the
    user's own.
    """
    parts = PurePosixPath(place or '/')
    if parts.is_absolute() or '..' in parts.parts or '\0' in str(parts):
        return None
    return root / parts if (root / parts).is_dir() else None
