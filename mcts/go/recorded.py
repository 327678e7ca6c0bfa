"""Positions of recorded games as states, without a replay, and without a loop but for the chains.

A record that says of each stone when it was captured holds all positions of its game: a stone is on
the board from its turn until then. `data.go.replay` makes such records.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mcts.go import chains as chains_lib
from mcts.go.game import Go, State

FIELDS = 'points', 'gone', 'count', 'start', 'blacks', 'first'


def state(
  game: Go, points: Array, gone: Array, count: Array, start: Array, blacks: Array, first: Array
) -> State:
  """The state before entry `count` of a game's record, with the game's komi.

  points, gone: `[M]`, each entry's point and the position at which its stone was gone (0: never);
    from `count` on anything. M: the game's `max_moves`. The rest as in `State`, any integers.
  """
  rules = game.rules
  entry, count = jnp.arange(rules.max_moves), count.astype(jnp.int32)
  there = entry < count
  points = jnp.where(there, points.astype(jnp.int32), 0)
  gone = jnp.where(there & (gone <= count), gone.astype(jnp.int32), 0)
  colour = (entry - start + first) & 1
  colour = jnp.where(entry < start, entry >= blacks, colour)
  where = jnp.where(there & (gone == 0), points, rules.points)
  stones = jnp.zeros_like(points, shape=(rules.points + 1,)).at[where].add(1 - 2 * colour)
  record, record_high = rules.packing.pack(points, gone)
  passed = (points == rules.points) & there & (entry >= start)
  small = game.init()
  return State(
    chains=chains_lib.label(stones[:-1], rules.size).astype(jnp.int16),
    record=record,
    record_high=record_high,
    count=count.astype(jnp.uint16),
    start=start.astype(jnp.uint16),
    blacks=blacks.astype(jnp.uint16),
    first=first.astype(jnp.uint8),
    passes=_last_run(passed, count).astype(jnp.uint8),
    komi=small.komi,
  )


def _last_run(passed: Array, count: Array) -> Array:
  """How many of the last two entries before `count` are passes without a move after them."""
  last, before = (passed[jnp.maximum(count - n, 0)] & (count >= n) for n in (1, 2))
  return last.astype(jnp.int32) + (last & before)


def states(game: Go, batch) -> State:
  """`state` of a batch with the entries `FIELDS`."""
  return jax.vmap(lambda *x: state(game, *x))(*(batch[name] for name in FIELDS))
