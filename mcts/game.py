"""The contract of a game: two players in turn, perfect information, no chance, zero sum.

Every function is pure and works on one unbatched game; batches come from `jax.vmap` at the call
site. All values are from the view of the player to move, so the discount between plies is -1. A
`Game` written from this page alone is searched, trained by the task `selfplay`, rated, shown in
samples and played by hand in the terminal; `mcts/games/in_a_row.py` is an example to begin from.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mcts import symmetry

State = Any
"""All that the rules need of a game under way: a pytree of arrays of fixed shapes and dtypes."""

Node = Any
"""What a search keeps of a state for each node of its tree: a pytree, better a small one."""


def _unpack_identity(node: Node, root: State, line: Node, length: Array) -> State:
  del root, line, length
  return node


@dataclasses.dataclass(frozen=True)
class Game:
  """A game as a bundle of pure functions that can be traced by `jax.jit`.

  Required:

  name: what users call it.
  num_actions: A; an action is an int32 in [0, A).
  max_length: the most moves that a game can take from its first position. Self-play keeps at least
    so many positions of each game, and a recorded game has room for so many moves.
  init: () -> the state before the first move.
  step: (state, action) -> the state after a legal action; what an illegal one gives is undefined. A
    finished state stays as it is, whatever the action.
  legal: state -> bool `[A]`, true where an action is legal; all false once the game is over, and
    never all false before.
  done: state -> bool `[]`, whether the game is over.
  value: state -> float32 `[]` in {-1, 0, 1}: of a finished game, whether the player to move has
    lost, drawn or won. Of an unfinished one, the result if play were stopped there (Go counts the
    board as it stands), or 0 where the rules do not say.
  observe: state -> bool `[H, W, C]`, the network's input planes, from the view of the player to
    move. Search also takes float planes; the replay of self-play keeps planes as bits.
  to_play: state -> int32 `[]`: 0 if the player who moves first in the game is to move, else 1.
  render: a state on the host (NumPy or concrete arrays) -> the position as lines of text without a
    newline at the end, for people. It is not traced.

  Optional:

  pack: state -> node; the identity by default. A game whose state is large (Go's superko history)
    keeps less of it in each node of a search tree.
  unpack: (node, root, line, length) -> state, the inverse of `pack`. `root` is the state at the
    tree's root; `line` `[D, ...]` stacks the nodes from the root's child down to and with `node`,
    of which the first `length` (int32 `[]`) are valid.
  symmetries: transformations that map planes and policies alike and leave the game unchanged.
  rollout_legal: state -> bool `[A]`, the legal actions among which a random player chooses; never
    all false before the end. By default `legal`; Go leaves out moves into a player's own eyes,
    without which random games would not end.
  action_name: action (a Python int) -> the game's notation for it, such as 'D4'; by default its
    number. People may type it in either case.
  aux_targets: state -> what is known of a finished game besides who won, from the view of player 0,
    for auxiliary heads of the network: {'ownership': int8 `[H, W]` in {-1, 0, 1}, 'score': float32
    `[]` in points}. None if the game has no points.
  """

  name: str
  num_actions: int
  max_length: int
  init: Callable[..., State]
  step: Callable[[State, Array], State]
  legal: Callable[[State], Array]
  done: Callable[[State], Array]
  value: Callable[[State], Array]
  observe: Callable[[State], Array]
  to_play: Callable[[State], Array]
  render: Callable[[State], str]
  pack: Callable[[State], Node] = lambda state: state
  unpack: Callable[[Node, State, Node, Array], State] = _unpack_identity
  symmetries: symmetry.Group = symmetry.NONE
  rollout_legal: Callable[[State], Array] = None  # type: ignore[assignment]  # `legal`, see below
  action_name: Callable[[int], str] = str
  aux_targets: Callable[[State], Mapping[str, Array]] | None = None

  def __post_init__(self):
    if self.rollout_legal is None:
      object.__setattr__(self, 'rollout_legal', self.legal)


def initial_states(game: Game, count: int, *args: Any) -> State:
  """Returns `count` games before their first moves, `[count, ...]`; args: for `init` (Go: komi)."""
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), game.init(*args))


def sign(player: Array) -> Array:
  """Returns float32: 1 for player 0 and -1 for player 1."""
  return (1 - 2 * player).astype(jnp.float32)


def first_player_value(game: Game, state: State) -> Array:
  """Returns float32 `[]`, `game.value` from the view of player 0 (unbatched)."""
  return game.value(state) * sign(game.to_play(state))
