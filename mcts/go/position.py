"""A game of Go under way on the host: its turns and what the rules say of it.

The rules are `mcts.go`'s, compiled once for each size: what is legal here is what its mask allows.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mcts.go.game import SIZES, Go, State, check_position
from mcts.go.notation import BLACK, COLOURS, to_vertex


class Illegal(ValueError):
  """A move that the rules forbid."""


# -------- the rules, compiled --------


class View(NamedTuple):
  """What the host wants to know of a state; NumPy, as `mcts.go` has them.

  board: int8 `[N, N]`, 1 black, -1 white; row 0 at the top.
  legal: bool `[2, N^2 + 1]`, of black and of white, as if it were that player's turn.
  owner: int8 `[N, N]`.
  """

  board: np.ndarray
  legal: np.ndarray
  owner: np.ndarray


@functools.cache
def rules(size: int, superko: str, suicide: bool, max_moves: int) -> Go:
  return Go(size, superko, suicide, max_moves)


class Programs(NamedTuple):
  begin: Callable[..., State]  # (board, to_play, komi)
  turn: Callable[..., State]  # (state, player, action)
  view: Callable[[State], View]
  given_to: Callable[..., State]  # (state, player)


@functools.cache
def programs(game: Go) -> Programs:

  def given_to(state: State, player) -> State:
    """The state with `player` to move, play going on if two passes had ended it."""
    state = state._replace(passes=jnp.minimum(state.passes, 1))
    other = game.to_play(state) != player
    return jax.tree.map(lambda a, b: jnp.where(other, a, b), game.give_turn(state), state)

  def turn(state, player, action):
    state = given_to(state, player)
    return game.step(state, action)

  def view(state):
    legal = jax.vmap(lambda player: game.legal(given_to(state, player)))(jnp.arange(2))
    return View(game.board(state), legal, game.ownership(state))

  return Programs(*map(jax.jit, (game.from_position, turn, view, given_to)))


# -------- the game --------


@dataclasses.dataclass(frozen=True)
class Turn:
  player: int
  action: int


class Position:
  """A game that can be taken back; turns need not alternate, and passes do not end it.

  superko, suicide: as for `mcts.go.Go`. A game may last `max_moves` turns, 2 N^2 + 100 unless told.
  """

  def __init__(
    self,
    size: int = 19,
    komi: float = 7.5,
    superko: str = 'positional',
    suicide: bool = False,
    max_moves: int | None = None,
  ):
    if size not in SIZES:
      raise ValueError(f'size {size}: must be from {SIZES[0]} to {SIZES[-1]}')
    self.size, self.komi = size, float(komi)
    self.max_moves = 2 * size * size + 100 if max_moves is None else max_moves
    self.rules = rules(size, superko, suicide, self.max_moves)
    self._programs = programs(self.rules)
    self.clear()

  def clear(self) -> None:
    """Back to the empty board."""
    self._begin(np.zeros((self.size, self.size), np.int8), BLACK)

  def set_up(self, board: np.ndarray, to_play: int = BLACK) -> None:
    """A new game from stones `[N, N]`; ValueError if a chain has no liberty."""
    check_position(self.rules.rules, np.asarray(board))  # raises before anything is lost
    self._begin(board, to_play)

  def _begin(self, board, to_play):
    self.start, self.first = np.array(board, np.int8), to_play
    self.turns: list[Turn] = []
    self._states = [self._programs.begin(self.start, np.int32(to_play), np.float32(self.komi))]
    self._views: list[View | None] = [None]

  # ---- what it looks like ----

  @property
  def state(self) -> State:
    return self._states[-1]

  @property
  def view(self) -> View:
    if self._views[-1] is None:
      self._views[-1] = jax.tree.map(np.asarray, self._programs.view(self.state))
    return self._views[-1]

  @property
  def board(self) -> np.ndarray:
    """int8 `[N, N]`."""
    return self.view.board

  @property
  def pass_action(self) -> int:
    return self.size * self.size

  @property
  def to_play(self) -> int:
    """Who is to move if players alternate."""
    return 1 - self.turns[-1].player if self.turns else self.first

  @property
  def passes(self) -> int:
    """How many turns in a row were passes just now."""
    count = 0
    while count < len(self.turns) and self.turns[-1 - count].action == self.pass_action:
      count += 1
    return count

  @property
  def full(self) -> bool:
    """Whether the record has no room for another turn (a change of turn takes room, too)."""
    return int(self.state.count) + 2 > self.max_moves

  def legal(self, player: int) -> np.ndarray:
    """bool `[N^2 + 1]`."""
    return self.view.legal[player] & ~np.bool_(self.full)

  def state_after(self, turns: int) -> State:
    """The state as it was after so many turns."""
    return self._states[turns]

  def state_for(self, player: int) -> State:
    """The state with `player` to move and passes forgotten, if that would have ended the game."""
    return self._programs.given_to(self.state, np.int32(player))

  @property
  def score(self) -> float:
    """Black's area less white's less komi, all stones taken as they stand."""
    return float(self.view.owner.sum(dtype=int)) - self.komi

  # ---- playing ----

  def play(self, player: int, action: int) -> None:
    if not self.legal(player)[action]:
      raise Illegal(f'{to_vertex(action, self.size)} is illegal for {COLOURS[player]}')
    state = self._programs.turn(self.state, np.int32(player), np.int32(action))
    self._states.append(state)
    self._views.append(None)
    self.turns.append(Turn(player, action))

  def undo(self) -> None:
    if not self.turns:
      raise ValueError('nothing to undo')
    for things in (self.turns, self._states, self._views):
      things.pop()

  def set_komi(self, komi: float) -> None:
    self.komi = float(komi)
    self._states = [state._replace(komi=np.float32(komi)) for state in self._states]
