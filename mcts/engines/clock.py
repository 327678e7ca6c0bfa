"""Clocks as GTP knows them, and how long to think so that they never run out.

Four kinds: no limit; absolute time; Canadian byo-yomi (after the main time, `stones` moves in each
`period`); and the Japanese byo-yomi of KGS (`stones` periods, one of which is lost whenever a move
takes longer than it).
"""

import dataclasses
import math

KINDS = ('none', 'absolute', 'canadian', 'byoyomi')
LAG = 0.15  # seconds a move kept for the controller, the network and the end of a chunk of search
FEWEST_MOVES = 12  # of our own that are always thought still to come
LONGEST_SHARE = 0.25  # of what is left on an absolute clock, at most, for one move


@dataclasses.dataclass(frozen=True)
class Settings:
  """Seconds of main time, and of a period; `stones` in a Canadian period, or the periods of KGS."""

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


def gtp_settings(main: float, period: float, stones: int) -> Settings:
  """The meaning of `time_settings` (GTP 2, section 4.2): a period for no stones is no limit."""
  if stones > 0 and period > 0:
    return Settings('canadian', main, period, stones)
  if period > 0 or main == 0:
    return Settings()
  return Settings('absolute', main)


def kgs_settings(kind: str, *numbers: float) -> Settings:
  """The meaning of `kgs-time_settings`: none | absolute T | byoyomi T P N | canadian T P N."""
  expected = {'none': 0, 'absolute': 1, 'canadian': 3, 'byoyomi': 3}
  if expected.get(kind) != len(numbers):
    raise ValueError(f'{kind} with {len(numbers)} numbers: choose from {", ".join(KINDS)}')
  if kind == 'canadian':
    return gtp_settings(numbers[0], numbers[1], int(numbers[2]))
  if kind == 'byoyomi' and not (numbers[1] > 0 and numbers[2] >= 1):
    raise ValueError(f'byoyomi {numbers}: needs a period above 0 s and at least one of it')
  return Settings(kind, *numbers[:2], *map(int, numbers[2:]))


def parse(text: str) -> Settings:
  """A limit as users write it: '' none, '300' absolute, '60+30/5' Canadian, '60+3x10' byo-yomi.

  Seconds throughout: 60 of main time, then 5 moves every 30, or 3 periods of 10.
  """
  try:
    main, plus, rest = text.partition('+')
    if not plus:
      return Settings('absolute', float(main)) if text else Settings()
    separator = '/' if '/' in rest else 'x'
    first, second = rest.split(separator)
    period, stones = (first, second) if separator == '/' else (second, first)
    kind = 'canadian' if separator == '/' else 'byoyomi'
    return kgs_settings(kind, float(main), float(period), float(int(stones)))
  except ValueError as error:
    raise ValueError(f'time {text!r}: write 300, 60+30/5 (5 moves in 30 s) or 60+3x10') from error


class Clock:
  """One player's clock.

  left: seconds left, of the main time or else of the period.
  stones: moves to play in the Canadian period, or periods left; 0 during the main time.
  """

  def __init__(self, settings: Settings = Settings()):
    self.settings = settings
    self.left, self.stones, self.flagged = settings.main, 0, False
    if self.left == 0:
      self._enter_overtime()

  def correct(self, left: float, stones: int) -> None:
    """What the controller says, by `time_left`, counts."""
    self.left, self.stones = max(0.0, left), stones
    if stones == 0 and left <= 0:
      self._enter_overtime()

  def spend(self, seconds: float) -> None:
    """A move was made after so many seconds; sets `flagged` if the time ran out before it."""
    if self.settings.kind == 'none':
      return
    self.left -= seconds
    if self.stones == 0 and self.left < 0:
      self._enter_overtime()
    if self.stones == 0:
      self.flagged |= self.left < 0
    elif self.settings.kind == 'canadian':
      self._end_canadian_move()
    else:
      self._end_byoyomi_move()

  def _enter_overtime(self):
    """From the main time into the first period, which pays what was overdrawn."""
    if self.settings.kind in ('canadian', 'byoyomi'):
      self.stones = self.settings.stones
      self.left += self.settings.period

  def _end_canadian_move(self):
    self.flagged |= self.left < 0
    self.stones -= 1
    if self.stones == 0:
      self.left, self.stones = self.settings.period, self.settings.stones

  def _end_byoyomi_move(self):
    while self.left < 0 and self.stones > 0:
      self.left += self.settings.period
      self.stones -= 1
    self.flagged |= self.stones == 0
    self.stones = max(self.stones, 1)
    self.left = self.settings.period

  def budget(self, moves: float) -> float | None:
    """Seconds to think about the next move; None for as long as one likes.

    moves: how many of one's own are thought to be left in the game.
    """
    kind = self.settings.kind
    if kind == 'none':
      return None
    if self.stones and kind == 'canadian':
      return max(0.0, 0.95 * self.left / self.stones - LAG)
    if self.stones:  # a lost period is gone for the whole game
      return max(0.0, 0.9 * self.left - LAG)
    share = min(self.left / max(moves, FEWEST_MOVES), LONGEST_SHARE * self.left)
    if kind == 'absolute':
      return max(0.0, share - LAG)
    each = self.settings.period / (self.settings.stones if kind == 'canadian' else 1)
    return max(0.0, share - LAG, 0.9 * each - LAG)


def moves_left(size: int, played: int) -> float:
  """A guess at one player's moves still to come: games last about 0.7 turns a point, or go on."""
  return max(0.7 * size * size - played, 0.15 * size * size) / 2
