"""Which blocks of student and teacher are compared."""

from collections.abc import Sequence

Pairs = list[tuple[int, int]]


def block_pairs(
    layers: str | Sequence[Sequence[int]], student_depth: int, teacher_depths: Sequence[int]
) -> Pairs:
    """(student block, teacher block) pairs, 0-based and in the order of the student's blocks.

    Args:
        layers: 'last', the last block of each, or a list of pairs, equal for all teachers.
        student_depth: blocks of the student.
        teacher_depths: blocks of each teacher; 'last' needs equal ones.

    Raises:
        ValueError: on anything else, a block that does not exist, or a student block twice.
    """
    if layers == 'last':
        if len(set(teacher_depths)) != 1:
            raise ValueError(
                f"layers='last' with teachers of {list(teacher_depths)} blocks: expected equal ones"
            )
        return [(student_depth - 1, teacher_depths[0] - 1)]
    if isinstance(layers, str) or not layers or any(len(pair) != 2 for pair in layers):
        raise ValueError(
            f"layers={layers!r}: expected 'last' or pairs of a student block and a teacher block"
        )
    pairs = sorted((int(student), int(teacher)) for student, teacher in layers)
    for number, (student, teacher) in enumerate(pairs):
        if not (0 <= student < student_depth and 0 <= teacher < min(teacher_depths)):
            raise ValueError(
                f'layers names the blocks {(student, teacher)}: expected student blocks below '
                f'{student_depth} and teacher blocks below {min(teacher_depths)}'
            )
        if number and pairs[number - 1][0] == student:
            raise ValueError(f'layers names the student block {student} twice; expected once')
    return pairs
