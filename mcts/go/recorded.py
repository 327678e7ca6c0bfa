"""States of recorded games, without playing through them.

A record that says when each stone was captured holds all positions of its game: a stone is on the
board from its turn until then (see `mcts.go.superko`). `data.go.replay` makes such records once,
and then any position of any game is a few array operations on the device.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mcts.go import chains as chains_lib
from mcts.go.game import Go
from mcts.go.state import State

FIELDS = 'points', 'gone', 'count', 'start', 'blacks', 'first'
"""Entries of a batch that `states` reads, named for the arguments of `state`."""


def state(
  game: Go, points: Array, gone: Array, count: Array, start: Array, blacks: Array, first: Array
) -> State:
  """Returns the state before entry `count` of a game's record, with the game's komi (unbatched).

  Args:
    game: whose `max_moves` is M.
    points: `[M]`, each entry's point, N^2 for a pass; from `count` on anything.
    gone: `[M]`, the first position without the entry's stone, 0 if it is never captured.
    count: int32 `[]`, `State.num_entries`.
    start: `State.num_setup`.
    blacks: `State.num_setup_black`.
    first: `State.first_player`.
  """
  rules = game.rules
  entry, count = jnp.arange(rules.max_moves), count.astype(jnp.int32)
  there = entry < count
  points = jnp.where(there, points.astype(jnp.int32), 0)
  # What is captured later than the position is not known in it.
  gone = jnp.where(there & (gone <= count), gone.astype(jnp.int32), 0)
  colour = (entry - start + first) & 1
  colour = jnp.where(entry < start, entry >= blacks, colour)
  where = jnp.where(there & (gone == 0), points, rules.points)
  stones = jnp.zeros_like(points, shape=(rules.points + 1,)).at[where].add(1 - 2 * colour)
  record, record_high = rules.packing.pack(points, gone)
  passed = (points == rules.points) & there & (entry >= start)
  return State(
    chains=chains_lib.label(stones[:-1], rules.size).astype(jnp.int16),
    record=record,
    record_high=record_high,
    num_entries=count.astype(jnp.uint16),
    num_setup=start.astype(jnp.uint16),
    num_setup_black=blacks.astype(jnp.uint16),
    first_player=first.astype(jnp.uint8),
    passes=_trailing_passes(passed, count).astype(jnp.uint8),
    komi=game.init().komi,
  )


def _trailing_passes(passed: Array, count: Array) -> Array:
  """Returns int32 `[]`: how many of the last two entries are passes without a move after them."""
  last, before = (passed[jnp.maximum(count - n, 0)] & (count >= n) for n in (1, 2))
  return last.astype(jnp.int32) + (last & before)


def states(game: Go, batch) -> State:
  """Returns `state` of each row of a batch with the entries `FIELDS`, `[B, ...]`."""
  return jax.vmap(lambda *x: state(game, *x))(*(batch[name] for name in FIELDS))
