"""comad-bench-ops: ``backbones/mmcv_ext.py`` as `mmcv/_ext.py` in the site-packages.

    pip install --no-deps ./ops

lets every program find mmcv's operators, also one that imports mmdet or mmseg before `backbones`
and workers that are spawned. A compiled mmcv wins: Python takes ``_ext.*.so`` before ``_ext.py``.
It is no part of comad-bench's own wheel, since without mmcv a folder ``mmcv`` would pass for it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).resolve().parents[1] / 'backbones' / 'mmcv_ext.py'


class BuildOneFile(build_py):
    """Packs the module alone; build_py would add an ``mmcv/__init__.py`` that lies beside it."""

    def find_modules(self) -> list[tuple[str, str, str]]:
        return [('mmcv', '_ext', str(SOURCE))]


with TemporaryDirectory() as scratch:  # the checkout may be read-only
    setup(
        name='comad-bench-ops',
        version='0.1.0',
        description="mmcv's NMS and RoIAlign on torchvision's kernels, no compiler needed",
        license='Apache-2.0',
        python_requires='>=3.10',
        install_requires=['torch>=2.6', 'torchvision>=0.21'],
        py_modules=['mmcv._ext'],
        cmdclass={'build_py': BuildOneFile},
        options={'egg_info': {'egg_base': scratch}, 'build': {'build_base': scratch}},
    )
