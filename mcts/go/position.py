"""A position of Go on the host, with the moves that led to it: what engines and GTP sessions use.

The rules are `mcts.go.Go`'s, compiled once for each board size and choice of options: what is legal
here is what its mask allows. A `Position` is more lenient than a game of `Go` where programs and
SGF files are: turns need not alternate, and two passes do not end it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mcts.go.game import SIZES, Go, check_komi, check_position
from mcts.go.notation import BLACK, COLOURS, to_vertex
from mcts.go.state import State

RESERVE = 4  # entries of a record for two passes out of turn, so that any game can be ended


class IllegalMove(ValueError):
  """A move that the rules forbid."""


# -------- the rules, compiled --------


class View(NamedTuple):
  """What the host needs to know of a state, in NumPy once it is fetched.

  Attributes:
    board: int8 `[N, N]`, 1 black, -1 white; row 0 at the top.
    legal: bool `[2, N^2 + 1]`, the legal actions of black and of white, if it were their turn.
    owner: int8 `[N, N]`, 1 in black's area, -1 in white's.
  """

  board: jax.Array | np.ndarray
  legal: jax.Array | np.ndarray
  owner: jax.Array | np.ndarray


@functools.cache
def shared_game(size: int, superko: str, suicide: bool, max_moves: int) -> Go:
  """Returns the one `Go` with these options, so that all who ask share its compiled programs."""
  return Go(size, superko, suicide, max_moves)


class Programs(NamedTuple):
  """A game's compiled functions on single states.

  Attributes:
    from_position: (board, to_play, komi) -> state.
    play: (state, player, action) -> state after the player's move, in turn or not.
    view: state -> `View`.
    with_player: (state, player) -> the state with that player to move and, if two passes had ended
      the game, play going on.
  """

  from_position: Callable[..., State]
  play: Callable[..., State]
  view: Callable[[State], View]
  with_player: Callable[..., State]


@functools.cache
def programs(game: Go) -> Programs:
  """Returns the compiled functions of a game."""

  def with_player(state: State, player) -> State:
    state = state._replace(passes=jnp.minimum(state.passes, 1))
    other = game.to_play(state) != player
    return jax.tree.map(lambda a, b: jnp.where(other, a, b), game.give_turn(state), state)

  def play(state, player, action):
    return game.step(with_player(state, player), action)

  def view(state):
    legal = jax.vmap(lambda player: game.legal(with_player(state, player)))(jnp.arange(2))
    return View(game.board(state), legal, game.ownership(state))

  functions = (game.from_position, play, view, with_player)
  return Programs(*(jax.jit(f) for f in functions))


# -------- the position --------


@dataclasses.dataclass(frozen=True)
class Turn:
  """A move or a pass: player 0 (black) or 1 (white), and the action row * N + column, or N^2."""

  player: int
  action: int


class Position:
  """A position and its moves, which can be taken back.

  Attributes:
    game: the rules; see `shared_game`.
    size: N.
    komi: added to white's score.
    max_moves: room in the record for so many turns, changes of turn out of order included.
    setup: int8 `[N, N]`, the board before the first turn.
    first_player: who was to take the first turn.
    turns: the turns since then.
  """

  def __init__(
    self,
    size: int = 19,
    komi: float = 7.5,
    superko: str = 'positional',
    suicide: bool = False,
    max_moves: int | None = None,
  ):
    """Begins with the empty board; max_moves is 2 N^2 + 100 by default, the rest as for `Go`."""
    if size not in SIZES:
      raise ValueError(f'size {size}: must be from {SIZES[0]} to {SIZES[-1]}')
    check_komi(komi)
    self.size, self.komi = size, float(komi)
    self.max_moves = 2 * size * size + 100 if max_moves is None else max_moves
    self.game = shared_game(size, superko, suicide, self.max_moves)
    self._programs = programs(self.game)
    self.clear()

  def clear(self) -> None:
    """Goes back to the empty board."""
    self._begin(np.zeros((self.size, self.size), np.int8), BLACK)

  def set_up(self, board: np.ndarray, to_play: int = BLACK) -> None:
    """Begins anew from stones.

    Args:
      board: `[N, N]`, 1 black, -1 white, 0 empty.
      to_play: who is to move.

    Raises:
      ValueError: if a chain has no liberty; the position is as it was then.
    """
    check_position(self.game.rules, np.asarray(board))
    self._begin(board, to_play)

  def _begin(self, board, to_play):
    self.setup, self.first_player = np.array(board, np.int8), to_play
    self.turns: list[Turn] = []
    begin = self._programs.from_position
    self._states = [begin(self.setup, np.int32(to_play), np.float32(self.komi))]
    self._views: list[View | None] = [None]

  # ---- what it looks like ----

  @property
  def state(self) -> State:
    """Returns the present state of `game`."""
    return self._states[-1]

  @property
  def view(self) -> View:
    """Returns the present `View` in NumPy, computed when first asked for."""
    view = self._views[-1]
    if view is None:
      view = self._views[-1] = jax.tree.map(np.asarray, self._programs.view(self.state))
    return view

  @property
  def board(self) -> np.ndarray:
    """Returns int8 `[N, N]`, 1 black, -1 white, 0 empty."""
    return np.asarray(self.view.board)

  @property
  def pass_action(self) -> int:
    """Returns N^2."""
    return self.size * self.size

  @property
  def to_play(self) -> int:
    """Returns who is to move if players alternate."""
    return 1 - self.turns[-1].player if self.turns else self.first_player

  @property
  def passes(self) -> int:
    """Returns how many passes the turns end in."""
    count = 0
    while count < len(self.turns) and self.turns[-1 - count].action == self.pass_action:
      count += 1
    return count

  @property
  def room(self) -> int:
    """Returns how many entries the record has left; a turn takes one, and one if out of order."""
    return self.max_moves - int(self.state.num_entries)

  @property
  def only_passes(self) -> bool:
    """Returns whether the record is so full that both players may only pass."""
    return self.room < 2 + RESERVE

  def legal(self, player: int) -> np.ndarray:
    """Returns bool `[N^2 + 1]`: the player's legal actions.

    Only the pass where the record is almost full, so that a game ends by two passes, and nothing
    after these.
    """
    legal = np.array(self.view.legal[player])
    legal[:-1] &= not self.only_passes
    legal[-1] &= self.room >= 2
    return legal

  def state_after(self, turns: int) -> State:
    """Returns the state as it was after so many turns."""
    return self._states[turns]

  def state_for(self, player: int) -> State:
    """Returns the state with `player` to move, a second pass forgotten if it ended the game."""
    return self._programs.with_player(self.state, np.int32(player))

  @property
  def score(self) -> float:
    """Returns black's area less white's less komi, all stones taken for alive."""
    return float(self.view.owner.sum(dtype=int)) - self.komi

  # ---- playing ----

  def play(self, player: int, action: int) -> None:
    """Plays an action. Raises IllegalMove, a ValueError, if the rules forbid it."""
    if not self.legal(player)[action]:
      raise IllegalMove(f'{to_vertex(action, self.size)} is illegal for {COLOURS[player]}')
    state = self._programs.play(self.state, np.int32(player), np.int32(action))
    self._states.append(state)
    self._views.append(None)
    self.turns.append(Turn(player, action))

  def undo(self) -> None:
    """Takes the last turn back. Raises ValueError if there is none."""
    if not self.turns:
      raise ValueError('nothing to undo')
    for history in (self.turns, self._states, self._views):
      history.pop()

  def set_komi(self, komi: float) -> None:
    """Changes the komi of the present state and all earlier ones; errors as `check_komi`."""
    check_komi(komi)
    self.komi = float(komi)
    self._states = [state._replace(komi=jnp.float32(komi)) for state in self._states]
