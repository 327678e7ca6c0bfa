"""What two players of Go agree on before a game."""

import dataclasses

from mcts.go import SUPERKO
from mcts.go.game import KOMI_DECIMALS, Go, check_komi
from mcts.go.position import Position


@dataclasses.dataclass(frozen=True)
class RuleSet:
  """The rules of a game of Go (docs/go_rules.md); area scoring throughout.

  size: N of a board of N x N points; engines say which they know (`engine.check_size`).
  komi: points that white has for moving second.
  superko: 'positional', 'situational' or 'simple', as in `mcts.go.Go`.
  suicide: whether a move may remove its own chain.
  """

  size: int = 9
  komi: float = 7.5
  superko: str = 'positional'
  suicide: bool = False

  def __post_init__(self):
    if self.superko not in SUPERKO:
      raise ValueError(f'superko {self.superko!r}: choose from {", ".join(SUPERKO)}')
    check_komi(self.komi)

  def __str__(self):
    """Returns the rules without size and komi, as SGF's property RU has them."""
    return f'area, {self.superko} ko{", suicide" if self.suicide else ""}'

  @classmethod
  def of(cls, game: Go) -> 'RuleSet':
    """Returns the rules of a game."""
    komi = round(float(game.init().komi), KOMI_DECIMALS)  # which a state has in float32
    return cls(game.size, komi, game.rules.superko, game.rules.suicide)

  def differences(self, other: 'RuleSet') -> list[str]:
    """Returns where the other rules differ, the size apart, as 'komi 7.5, not 5.5'."""
    return [
      f'{name} {getattr(other, name)}, not {getattr(self, name)}'
      for name in ('komi', 'superko', 'suicide')
      if getattr(self, name) != getattr(other, name)
    ]

  def position(self) -> Position:
    """Returns a game before its first move."""
    return Position(self.size, self.komi, self.superko, self.suicide)
