"""The contract between a game and the search: two players in turn, nothing hidden, no chance.

Every function is pure and works on one game; batches come from `jax.vmap` at the call site. All
values are from the view of the player to move, so that the discount between plies is -1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mcts import symmetry

State = Any
"""All that the rules need of a game under way: any pytree of arrays of fixed shapes."""

Node = Any
"""What a search keeps of a state for each node of its tree: any pytree, better a small one."""


def _unpack_identity(node: Node, root: State, line: Node, length: Array) -> State:
  del root, line, length
  return node


@dataclasses.dataclass(frozen=True)
class Game:
  """A game as a bundle of pure functions.

  name: what users call it.
  num_actions: A; an action is an int32 in [0, A).
  init: () -> the state before the first move.
  step: (state, action) -> state. The action must be legal: what another one gives is not defined.
    A finished state stays as it is, whatever the action.
  legal: state -> bool `[A]`, true for the legal actions; of a finished state all false.
  done: state -> bool `[]`, whether the game is over.
  value: state -> float32 `[]`: of a finished state 1, -1 or 0 as the player to move has won, lost
    or drawn. Of an unfinished state it means nothing.
  observe: state -> bool or float32 `[H, W, C]`, planes from the view of the player to move.
  to_play: state -> int32 `[]`, 0 for the player who moves first in the game, 1 for the other.
  pack: state -> node.
  unpack: (node, root, line, length) -> state, the inverse of `pack` with help: `root` is the state
    at the tree's root, `line` the nodes from the root's child down to and with `node`, stacked
    `[D, ...]`, of which the first `length` (int32 `[]`) hold and the others may be anything.
  symmetries: what may be done to planes and policies alike without changing the game.
  """

  name: str
  num_actions: int
  init: Callable[..., State]
  step: Callable[[State, Array], State]
  legal: Callable[[State], Array]
  done: Callable[[State], Array]
  value: Callable[[State], Array]
  observe: Callable[[State], Array]
  to_play: Callable[[State], Array]
  pack: Callable[[State], Node] = lambda state: state
  unpack: Callable[[Node, State, Node, Array], State] = _unpack_identity
  symmetries: symmetry.Group = symmetry.NONE


def beginnings(game: Game, count: int, *terms: Any) -> State:
  """So many games before their first moves, `[count, ...]`; terms: of `init`, as Go's komi."""
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), game.init(*terms))


def sign(player: Array) -> Array:
  """float32: 1 for the player 0, -1 for the player 1."""
  return (1 - 2 * player).astype(jnp.float32)
