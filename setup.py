"""Beside setup.cfg: the wheel carries what lies outside of the packages in a checkout.

Config folders, the sample's teachers and the committed tables go into ``comad/files``, where
`comad.runs.place` looks for them in an installed package. An editable installation reads the
checkout's.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CARRIED = (
    'base_configs/**/*.py',
    'base_configs/tracks/*/teachers/*/*',
    '*_configs/*.py',
    'results/*.csv',
)


class BuildWithFiles(build_py):
    """Copies ``CARRIED`` into the built package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for pattern in CARRIED:
            for source in sorted(ROOT.glob(pattern)):
                target = Path(self.build_lib, 'comad', 'files', source.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


setup(cmdclass={'build_py': BuildWithFiles})
