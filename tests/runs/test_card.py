"""Cards of students: typed, and lenient to entries of other versions."""

import json

import pytest

from comad.runs.card import make_card, read_student_card
from tests.leaderboard.examples import make_card as example
from tests.leaderboard.examples import make_data


def test_a_card_is_read_as_it_was_written(tmp_path):
    card = example('comad_tiny', 3, data=make_data('flowers', 'train', subset='first 9'))
    (tmp_path / 'student.json').write_text(json.dumps(card.as_dict()))
    assert read_student_card(tmp_path / 'student.json') == card
    assert (card.seed, card.data.name, card.unit) == (3, 'flowers', 'image')
    assert card.pretrain_data == 'flowers, first 9'


def test_an_earlier_card_is_read_but_its_data_are_unknown():
    facts = example('comad_tiny').as_dict() | {'data': 'imagenet-1k', 'gpus': 8}
    del facts['unit']
    card = make_card(facts)
    assert card.data is None and card.pretrain_data is None and card.epochs == 300


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ('[]', 'holds a list, not a JSON object'),
        ('{"name": 1}', r'Expected str, got int - at \$.name'),
        ('{', 'is not valid JSON'),
        (None, r'\(no such file or directory'),
    ],
)
def test_what_is_no_card_is_named(tmp_path, content, reason):
    path = tmp_path / 'student.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=f'student.json: no card of a student .*{reason}') as error:
        read_student_card(path)
    assert '\n' not in str(error.value)
