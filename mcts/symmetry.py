"""The symmetries of boards: of planes, actions and policies; the eight of a square above all.

Symmetry k in [0, 8) is a turn by k % 4 quarter turns counterclockwise (as `numpy.rot90`), after
which k >= 4 mirrors left and right. k may be an array under `jax.vmap`: all of it is one gather.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

COUNT = 8
INVERSES = (0, 3, 2, 1, 4, 5, 6, 7)  # the mirrored ones undo themselves


def inverse(k):
  """The symmetry that undoes k."""
  return jnp.asarray(INVERSES, jnp.int32)[k]


@functools.cache
def _sources(size: int) -> np.ndarray:
  """`[8, size^2]`: the point that each point of the transformed board comes from."""
  points = np.arange(size * size, dtype=np.int32).reshape(size, size)
  turned = [np.rot90(points, k) for k in range(4)]
  return np.stack([x.ravel() for x in (*turned, *(x[:, ::-1] for x in turned))])


def board(x: Array, k) -> Array:
  """A board or planes `[N, N, ...]`, transformed by k."""
  size = x.shape[0]
  if x.ndim < 2 or x.shape[1] != size:
    raise ValueError(f'a board of shape {x.shape}: must be square, [N, N, ...]')
  flat = x.reshape(size * size, *x.shape[2:])
  return flat[jnp.asarray(_sources(size))[k]].reshape(x.shape)


def policy(p: Array, k) -> Array:
  """Probabilities, logits or a mask `[N^2 + 1]` over the points and the pass, transformed by k.

  Without the pass, `[N^2]`, likewise.
  """
  points = _points(p.shape[-1])
  turned = p[: points[0]][jnp.asarray(_sources(points[1]))[k]]
  return jnp.concatenate([turned, p[points[0] :]])


def action(a: Array, k, size: int) -> Array:
  """Where the action (a point, or the pass size^2) lies on the board transformed by k."""
  back = jnp.asarray(_sources(size))[inverse(k)]
  return jnp.where(a < size * size, back[jnp.minimum(a, size * size - 1)], a)


@dataclasses.dataclass(frozen=True)
class Group:
  """The symmetries of a game, each a number k in [0, count); 0 changes nothing.

  board: (planes `[H, W, ...]`, k) -> the planes, transformed.
  policy: (`[A]`, k) -> what belongs to the actions, likewise.
  inverse: k -> the one that undoes it.
  """

  count: int
  board: Callable[[Array, Any], Array]
  policy: Callable[[Array, Any], Array]
  inverse: Callable[[Any], Any] = lambda k: k


def _mirror_columns(planes: Array, k) -> Array:
  return jnp.where(k > 0, planes[:, ::-1], planes)


def _mirror_actions(p: Array, k) -> Array:
  return jnp.where(k > 0, p[::-1], p)


# An action is a point, row by row, or a pass behind them.
SQUARE = Group(COUNT, board, policy, inverse)
MIRROR = Group(2, _mirror_columns, _mirror_actions)  # an action is a column
NONE = Group(1, lambda planes, k: planes, lambda p, k: p)


def _points(actions: int) -> tuple[int, int]:
  """Points and size of the board with this many actions, with or without a pass."""
  for points in (actions, actions - 1):
    size = round(points**0.5)
    if points > 0 and size * size == points:
      return points, size
  raise ValueError(f'a policy over {actions} actions: must be N^2 or N^2 + 1 of them')
