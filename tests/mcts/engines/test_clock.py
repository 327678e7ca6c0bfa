"""Clocks of the Go Text Protocol, and budgets that they never run out of."""

import pytest

from mcts.engines import clock


@pytest.mark.parametrize('text', ['60', '20+10/5', '0+10/5', '20+3x4', '0+1x2'])
def test_budgets_never_lose_on_time(text):
  """Games are far longer than expected, and each move takes its budget and a bit."""
  own = clock.Clock(clock.parse(text))
  for turn in range(400):
    seconds = own.budget(clock.expected_moves_left(19, 2 * turn))
    assert seconds >= 0
    own.spend(seconds + (0.1 if text != '60' else min(0.1, own.left / 100)))
    assert not own.flagged, (turn, own.left)


def test_clocks_run_out():
  own = clock.Clock(clock.parse('10'))
  own.spend(10.5)
  assert own.flagged
  canadian = clock.Clock(clock.parse('0+10/2'))
  canadian.spend(6)
  canadian.spend(3)
  assert (canadian.left, canadian.stones, canadian.flagged) == (10, 2, False)
  canadian.spend(6)
  canadian.spend(5)
  assert canadian.flagged
  periods = clock.Clock(clock.parse('5+2x10'))
  periods.spend(17)
  assert (periods.left, periods.stones, periods.flagged) == (10, 1, False)
  periods.spend(10.5)
  assert periods.flagged


def test_time_settings_mean_what_the_standard_says():
  assert clock.from_time_settings(0, 10, 0).kind == 'none'
  assert clock.from_time_settings(300, 0, 0) == clock.TimeControl('absolute', 300)
  assert clock.from_time_settings(0, 30, 5).kind == 'canadian'
  assert clock.Clock(clock.TimeControl()).budget(50) is None
  with pytest.raises(ValueError, match='write 300'):
    clock.parse('soon')
