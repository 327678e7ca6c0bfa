"""Clocks of the Go Text Protocol, and how long to think so that they never run out.

Four kinds of time control: 'none'; 'absolute' (main time alone); 'canadian' (after the main time,
`stones` moves in each `period`); 'byoyomi', the Japanese one of KGS (after the main time, `stones`
periods, one of which is lost whenever a move takes longer than it). Times are in seconds.
"""

import dataclasses
import math

KINDS = ('none', 'absolute', 'canadian', 'byoyomi')
LAG = 0.15  # seconds a move kept for the controller, the network and the end of a chunk of search
MIN_MOVES_LEFT = 12  # of our own that are always expected still to come
MAX_SHARE = 0.25  # of what is left of the main time, at most, for one move


@dataclasses.dataclass(frozen=True)
class TimeControl:
  """The time that each player has for a game.

  kind: one of `KINDS`.
  main: seconds of main time, at least 0.
  period: seconds of a period of overtime, at least 0.
  stones: moves in a Canadian period, or the number of byo-yomi periods.
  """

  kind: str = 'none'
  main: float = 0.0
  period: float = 0.0
  stones: int = 0

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(f'time {self.kind!r}: choose from {", ".join(KINDS)}')
    numbers = (self.main, self.period, self.stones)
    if not all(math.isfinite(x) and x >= 0 for x in numbers):
      raise ValueError(f'times {numbers}: must be finite and at least 0')


def from_time_settings(main: float, period: float, stones: int) -> TimeControl:
  """Returns what `time_settings` means (GTP 2, section 4.2): a period for 0 stones is no limit."""
  if stones > 0 and period > 0:
    return TimeControl('canadian', main, period, stones)
  if period > 0 or main == 0:
    return TimeControl()
  return TimeControl('absolute', main)


def from_kgs_time_settings(kind: str, *numbers: float) -> TimeControl:
  """Returns what `kgs-time_settings` means.

  Args:
    kind: one of `KINDS`.
    *numbers: nothing for 'none', (main,) for 'absolute', (main, period, periods) for 'byoyomi',
      (main, period, stones) for 'canadian'.

  Raises:
    ValueError: for another kind, other numbers, or byo-yomi without a period.
  """
  expected = {'none': 0, 'absolute': 1, 'canadian': 3, 'byoyomi': 3}
  if expected.get(kind) != len(numbers) or any(stones % 1 for stones in numbers[2:]):
    raise ValueError(f'{kind} {numbers}: choose from {", ".join(KINDS)}, with its numbers')
  main, period, stones = (*numbers, 0, 0, 0)[:3]
  if kind == 'canadian':
    return from_time_settings(main, period, int(stones))
  if kind == 'byoyomi' and not (period > 0 and stones >= 1):
    raise ValueError(f'byoyomi {numbers}: needs a period above 0 s and at least one of it')
  return TimeControl(kind, main, period, int(stones))


def parse(text: str) -> TimeControl:
  """Returns the time control that a user has written.

  Args:
    text: '' for none, '300' for 300 s in all, '60+30/5' for 60 s and then 5 moves every 30 s
      (Canadian), '60+3x10' for 60 s and then 3 periods of 10 s (byo-yomi).

  Raises:
    ValueError: for anything else.
  """
  try:
    main, plus, rest = text.partition('+')
    if not plus:
      return TimeControl('absolute', float(main)) if text else TimeControl()
    if '/' in rest:
      period, stones = rest.split('/')
      return from_kgs_time_settings('canadian', float(main), float(period), float(int(stones)))
    periods, period = rest.split('x')
    return from_kgs_time_settings('byoyomi', float(main), float(period), float(int(periods)))
  except ValueError as error:
    raise ValueError(f'time {text!r}: write 300, 60+30/5 (5 moves in 30 s) or 60+3x10') from error


class Clock:
  """One player's clock.

  control: the time control.
  left: seconds left of the main time or of the period; below 0 once time has run out.
  stones: moves to play in the Canadian period, or periods left; 0 during the main time.
  flagged: whether the player has run out of time.
  """

  def __init__(self, control: TimeControl = TimeControl()):
    self.control = control
    self.left, self.stones, self.flagged = control.main, 0, False
    if self.left == 0:
      self._enter_overtime()

  def correct(self, left: float, stones: int) -> None:
    """Sets the clock to what the controller says (`time_left`, GTP 2, section 4.2).

    A controller may say it without `time_settings`, or of a period that these lacked: then what is
    left is all that is known.
    """
    if stones > 0 and self.control.kind in ('none', 'absolute'):
      self.control = TimeControl('canadian', self.control.main, max(0.0, left), stones)
    elif left > 0 and self.control.kind == 'none':
      self.control = TimeControl('absolute', left)
    self.left, self.stones = max(0.0, left), stones
    if stones == 0 and left <= 0:
      self._enter_overtime()

  def spend(self, seconds: float) -> None:
    """Takes off the time of a move that was made; sets `flagged` if it ran out before."""
    if self.control.kind == 'none':
      return
    self.left -= seconds
    if self.stones == 0 and self.left < 0:
      self._enter_overtime()
    if self.stones == 0:
      self.flagged |= self.left < 0
    elif self.control.kind == 'canadian':
      self._end_canadian_move()
    else:
      self._end_byoyomi_move()

  def _enter_overtime(self):
    # What the main time is overdrawn by is taken from the first period.
    if self.control.kind in ('canadian', 'byoyomi'):
      self.stones = self.control.stones
      self.left += self.control.period

  def _end_canadian_move(self):
    self.flagged |= self.left < 0
    self.stones -= 1
    if self.stones == 0:
      self.left, self.stones = self.control.period, self.control.stones

  def _end_byoyomi_move(self):
    while self.left < 0 and self.stones > 0:
      self.left += self.control.period
      self.stones -= 1
    self.flagged |= self.stones == 0
    self.stones = max(self.stones, 1)
    self.left = self.control.period

  def budget(self, moves_left: float) -> float | None:
    """Returns seconds to think about the next move, None for no limit.

    Args:
      moves_left: how many of the player's own moves are expected in the rest of the game.
    """
    kind = self.control.kind
    if kind == 'none':
      return None
    if self.stones and kind == 'canadian':
      return max(0.0, 0.95 * self.left / self.stones - LAG)
    if self.stones:  # nothing is gained by ending a period early, and a lost one never comes back
      return max(0.0, 0.9 * self.left - LAG)
    share = min(self.left / max(moves_left, MIN_MOVES_LEFT), MAX_SHARE * self.left)
    if kind == 'absolute':
      return max(0.0, share - LAG)
    each = self.control.period / (self.control.stones if kind == 'canadian' else 1)
    return max(0.0, share - LAG, 0.9 * each - LAG)


def expected_moves_left(size: int, played: int) -> float:
  """Returns how many moves one player will still make: games last about 0.7 turns a point.

  Args:
    size: N of the board.
    played: turns so far, of both players. A game longer than expected still goes on for a while.
  """
  return max(0.7 * size * size - played, 0.15 * size * size) / 2
