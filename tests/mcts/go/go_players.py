"""Two players of Go on 3x3 who leave nothing to chance."""

import jax
import jax.numpy as jnp

from mcts.go import Go

SIZE = 3
GAME = Go(SIZE, komi=0.5)


def first_point(states, keys):
  """The first legal point, row by row; else a pass."""
  del keys
  return jax.vmap(GAME.legal)(states).argmax(-1).astype(jnp.int32)


def last_point(states, keys):
  del keys
  legal = jax.vmap(GAME.legal)(states)[:, :-1]
  point = SIZE**2 - 1 - legal[:, ::-1].argmax(-1)
  return jnp.where(legal.any(-1), point, SIZE**2).astype(jnp.int32)


def points(referee):
  """The legal points."""
  return [i for i, legal in enumerate(referee.mask()[:-1]) if legal]
