"""The study of video on the embedded sample: AMD, VideoMAE and scratch on both sets, paired seeds.

The teacher is trained once, with seed 0, and its frozen features are judged beside its students'.
"""

from pathlib import Path

from comad.engine.paths import VIDEO_TEACHERS
from comad.engine.run_config import PRETRAIN
from comad.sweep.grid import RECORDS, WORK
from comad.sweep.step import Step, config_sources
from comad.tasks.task import TASKS

AMD, VIDEOMAE, SCRATCH = (f'{name}_video_small' for name in ('amd', 'videomae', 'scratch'))
TEACHER_FILE, TEACHER = next(iter(VIDEO_TEACHERS.items()))
FROZEN = ('k400_knn', 'ssv2_knn', 'k400_linear', 'ssv2_linear')
KINDS = (*FROZEN, 'k400_finetune', 'ssv2_finetune')
# On one core.
SECONDS = {'data': 20, TEACHER: 60, AMD: 100, VIDEOMAE: 50}
KIND_SECONDS = {'knn': 15, 'linear': 30, 'finetune': 45}


def video(root: Path, seeds: int) -> list[Step]:
    """Return clips and teacher, then pretrainings and transfers seed by seed."""
    steps = teacher_steps(root)
    for seed in range(seeds):
        steps += [_pretrain(root, student, seed) for student in (VIDEOMAE, AMD)]
        for kind in KINDS:
            steps += [_transfer(root, kind, s, seed, seed) for s in (AMD, VIDEOMAE)]
            steps.append(_transfer(root, kind, SCRATCH, 0, seed))
        steps += [_transfer(root, kind, TEACHER, 0, seed) for kind in FROZEN]
    return steps


def teacher_steps(root: Path) -> list[Step]:
    """Return the step that writes the clips, and the one that trains the teacher."""
    return [data_step(), _pretrain(root, TEACHER, 0)]


def data_step() -> Step:
    """Return the step that writes the sample's clips."""
    command = ('python', 'tools/data.py', 'sample', '--video')
    sources = ('comad/data/sample/videos.py', 'comad/data/sample/digits.py')
    proof = ('data/sample_video/manifest.json',)
    return Step('video_data', command, proof, sources=sources, seconds=SECONDS['data'])


def probes(root: Path) -> list[Step]:
    """Return the steps that judge the teacher's frozen features."""
    return [_transfer(root, kind, TEACHER, 0, 0) for kind in FROZEN]


def _pretrain(root: Path, student: str, seed: int) -> Step:
    leaf = f'pretrain_configs/{student}.py'
    proofs = ['student.safetensors', 'student.json']
    proofs += [Path(TEACHER_FILE).name] if student == TEACHER else []
    return Step(
        name=f'pretrain_{student}_p{seed}',
        command=('python', 'tools/train.py', leaf, '--sample', '--seed', str(seed)),
        outputs=tuple(f'{WORK}/pretrain/{student}/seed{seed}/{proof}' for proof in proofs),
        needs=('video_data', *([f'pretrain_{TEACHER}_p0'] if student == AMD else [])),
        sources=config_sources(root, leaf, 'base_configs/tracks/sample/pretrain_video.py'),
        seconds=SECONDS[student],
        student=student,
        part=PRETRAIN,
    )


def _transfer(root: Path, kind: str, student: str, pretrain_seed: int, seed: int) -> Step:
    leaf = TASKS[kind].leaf(AMD)
    name = f'{kind}_{student}_p{pretrain_seed}_s{seed}'
    command = ('python', 'tools/train.py', leaf, '--sample', '--seed', str(seed))
    return Step(
        name=name,
        command=(*command, '--student', f'{student}:{pretrain_seed}'),
        outputs=(f'{RECORDS}/{name}.json',),
        needs=('video_data', *([] if student == SCRATCH else [_made(student, pretrain_seed)])),
        sources=config_sources(root, leaf, 'base_configs/tracks/sample/video.py'),
        seconds=KIND_SECONDS[kind.split('_')[1]],
        student=student,
        part=kind,
    )


def _made(student: str, seed: int) -> str:
    return f'pretrain_{student}_p{seed}'
