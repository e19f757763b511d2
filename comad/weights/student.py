"""What a student of this suite is, as its card and its tensors tell."""

from dataclasses import dataclass
from pathlib import Path

from backbones import CheckpointError, load_student
from backbones.checkpoints import read_checkpoint
from backbones.student import CARD_FILE, STUDENT_FILE
from comad.runs.card import StudentCard, read_student_card
from comad.weights.report import file_lines, table


@dataclass
class StudentReport:
    """A student's file and card.

    Attributes:
        path: ``student.safetensors``.
        card: Beside it.
        tensors, parameters: How many there are.
        problem: Why file, card and network do not belong together; None if they do.
    """

    path: Path
    card: StudentCard
    tensors: int
    parameters: int
    problem: str | None = None

    def text(self) -> str:
        """A few lines for people."""
        card, built = self.card, self.card.architecture or {}
        version = f', version {card.method_version}' if card.method_version else ''
        teachers = [f'{t.family} ({t.file}, {t.licence})' for t in card.teachers]
        return table(
            [
                *file_lines(self.path),
                (
                    'student',
                    f'{card.name} by its card {CARD_FILE}: method {card.method}{version}, seed '
                    f'{card.seed}, track {card.track}',
                ),
                ('config', card.config or 'not stated'),
                ('shape', ', '.join(f'{key} {value}' for key, value in built.items())),
                ('used', f'{self.tensors} tensors, {self.parameters / 1e6:,.2f} M parameters'),
                ('data', card.pretrain_data or 'not stated'),
                ('teachers', ', '.join(teachers) or 'none'),
                ('licence', card.licence or 'not stated'),
                ('verdict', self.problem or 'complete: every tensor of the network is in the file'),
            ]
        )


def find_student(path: str | Path) -> Path | None:
    """A student's file, itself or in its folder, that has a card beside it; None if there is none.

    A card beside it is needed: without one a file is anybody's.
    """
    path = Path(path) / STUDENT_FILE if Path(path).is_dir() else Path(path)
    is_one = path.name == STUDENT_FILE and path.is_file()
    return path if is_one and path.with_name(CARD_FILE).is_file() else None


def inspect_student(path: Path) -> StudentReport:
    """Compare a student's file with its card, and fill the network that the card states.

    Raises:
        CheckpointError: the file cannot be read, or its card is none.
    """
    try:
        card = read_student_card(path.with_name(CARD_FILE))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    tensors = read_checkpoint(path)
    numbers = sum(getattr(value, 'numel', int)() for value in tensors.values())
    report = StudentReport(path, card, len(tensors), numbers)
    try:
        load_student(path)
    except CheckpointError as error:
        report.problem = str(error)
    return report
