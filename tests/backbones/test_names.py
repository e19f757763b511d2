"""Near names, in the form that every message has them."""

from backbones.names import meant


def test_the_nearest_names_come_first_and_nothing_is_made_up():
    known = ['mae', 'comad', 'comad_mean', 'dmt', 'comad']
    assert meant('comda', known, 1) == ' (did you mean comad?)'
    assert meant('comda', known, 2) == ' (did you mean comad or comad_mean?)'
    assert meant('xyz', known) == meant('mae', []) == ''
