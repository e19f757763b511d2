"""A miniature repository with a stand-in interpreter, so that shell tools run in milliseconds."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = ('ops/pyproject.toml', 'ops/setup.py', 'backbones/mmcv_ext.py')

# Notes every call with the settings that matter; answers for pip, torchrun and the proofs, and
# hands everything else to the real interpreter.
PYTHON = f"""#!/bin/bash
folder=$(dirname "$0")/..
settings="OMP=${{OMP_NUM_THREADS-unset}} CUDA=${{FORCE_CUDA-}}"
echo "$* [$settings DEVICES=${{CUDA_VISIBLE_DEVICES-all}}]" >> "$folder/calls"
case "$*" in
    *"-m pip "*) [[ ! -e $folder/pip_fails ]] || {{ echo no such wheel; exit 1; }} ;;
    *"_environment.py ops"*) [[ ! -e $folder/ops_fail ]] || {{ rm "$folder/ops_fail"; exit 1; }} ;;
    *"_environment.py uv_settings"*) echo UV_INDEX=https://mirror.example/simple ;;
    *--print-work-dir*) echo "$folder/run" ;;
    *"_environment.py core"* | *"import cv2"* | *libGL* | *tools/t*.py* | *"-m pytest"*) ;;
    *) exec {sys.executable} "$@" ;;
esac
"""

# Notes its calls beside the interpreter's. The question whether the index of CPU builds can be
# reached is a dry run, and answered with no unless a test makes the file `cpu_index`.
UV = """folder=$COMAD_VENV
[[ $1 == pip ]] || exit 1
echo "uv $* [INDEX=$UV_INDEX BACKEND=$UV_TORCH_BACKEND]" >> "$folder/calls"
[[ ! -e $folder/uv_fails ]] || { echo no such host; exit 2; }
[[ $* != *--dry-run* || -e $folder/cpu_index ]]"""


@dataclass
class Machine:
    """A repository, an environment and a PATH in a temporary folder."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        return self.folder / 'repository'

    @property
    def environment(self) -> Path:
        return self.folder / 'environment'

    def program(self, name: str, text: str) -> None:
        """Put an executable in front of the PATH."""
        path = self.folder / 'bin' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\n{text}\n')
        path.chmod(0o755)

    def install(self, name: str, version: str, text: str = '') -> None:
        """Pretend that a distribution of one package is installed, `text` in its version.py."""
        packages = self.environment / 'lib' / 'python3.11' / 'site-packages'
        (packages / f'{name}-{version}.dist-info').mkdir(parents=True, exist_ok=True)
        (packages / name).mkdir(exist_ok=True)
        (packages / name / 'version.py').write_text(text)

    def set_gpus(self, count: int) -> None:
        lines = '\n'.join(f'echo "GPU {i}: Some GPU (UUID: GPU-{i})"' for i in range(count))
        self.program('nvidia-smi', lines or 'exit 9')

    def run(
        self, tool: str, *arguments: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess:
        drop = ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'PYTHON', 'CXX')
        variables = {key: value for key, value in os.environ.items() if key not in drop}
        variables['PATH'] = f'{self.folder / "bin"}:{variables["PATH"]}'
        variables['COMAD_VENV'] = str(self.environment)
        return subprocess.run(
            ['bash', str(self.repository / 'tools' / tool), *arguments],
            cwd=cwd or self.repository,
            env=variables | self.variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self, containing: str = '') -> list[str]:
        path = self.environment / 'calls'
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if containing in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """No GPU, no Slurm, an environment whose packages are all pretended."""
    made = Machine(tmp_path)
    shutil.copytree(ROOT / 'tools', made.repository / 'tools')
    for name in ('setup.cfg', 'constraints.txt', 'comad/engine/preemption.py', *OPERATORS):
        (made.repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, made.repository / name)
    for name in ('comad_tiny', 'mae_tiny', 'mae_base'):
        path = made.repository / 'pretrain_configs' / f'{name}.py'
        path.parent.mkdir(exist_ok=True)
        path.write_text('')
    python = made.environment / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    made.install('opencv_python', '5.0')
    made.install('torch', '2.11.0', "cuda: str | None = '13.0'\n")
    made.set_gpus(0)
    made.program('uv', UV)
    made.program('sinfo', 'exit 1')
    for name in ('chromium', 'chromedriver', 'slurmctld'):  # so that no test installs one
        made.program(name, 'exit 0')
    return made
