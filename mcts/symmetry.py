"""Symmetries of boards, which act on planes, actions and policies; the dihedral group of a square.

Element k in [0, 8) rotates by k % 4 quarter turns counterclockwise (as `numpy.rot90`) and then, for
k >= 4, mirrors left and right. k may be traced: a transformation is one gather.
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
  """Returns the element that undoes k."""
  return jnp.asarray(INVERSES, jnp.int32)[k]


@functools.cache
def _sources(size: int) -> np.ndarray:
  """Returns int32 `[8, size^2]`: the point that each point of the transformed board comes from."""
  points = np.arange(size * size, dtype=np.int32).reshape(size, size)
  rotated = [np.rot90(points, k) for k in range(4)]
  return np.stack([x.ravel() for x in (*rotated, *(x[:, ::-1] for x in rotated))])


def board(x: Array, k) -> Array:
  """Returns a board or planes `[N, N, ...]`, transformed by k. Raises ValueError if not square."""
  size = x.shape[0]
  if x.ndim < 2 or x.shape[1] != size:
    raise ValueError(f'a board of shape {x.shape}: must be square, [N, N, ...]')
  flat = x.reshape(size * size, *x.shape[2:])
  return flat[jnp.asarray(_sources(size))[k]].reshape(x.shape)


def policy(p: Array, k) -> Array:
  """Returns probabilities, logits or a mask over actions, transformed by k.

  Args:
    p: `[N^2 + 1]` over the points and the pass, or `[N^2]` over the points.
    k: the element.

  Raises:
    ValueError: p has another length.
  """
  points = _points(p.shape[-1])
  transformed = p[: points[0]][jnp.asarray(_sources(points[1]))[k]]
  return jnp.concatenate([transformed, p[points[0] :]])


def action(a: Array, k, size: int) -> Array:
  """Returns where an action (a point, or the pass size^2) lies on the board transformed by k."""
  back = jnp.asarray(_sources(size))[inverse(k)]
  return jnp.where(a < size * size, back[jnp.minimum(a, size * size - 1)], a)


@dataclasses.dataclass(frozen=True)
class Group:
  """The symmetry group of a game, whose elements are numbers k in [0, count); 0 is the identity.

  board: (planes `[H, W, ...]`, k) -> the planes, transformed.
  policy: (one number an action, `[A]`, k) -> the numbers of the transformed actions.
  inverse: k -> the element that undoes it.
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
  """Returns N^2 and N of the board with so many actions, with or without a pass."""
  for points in (actions, actions - 1):
    size = round(points**0.5)
    if points > 0 and size * size == points:
      return points, size
  raise ValueError(f'a policy over {actions} actions: must be N^2 or N^2 + 1 of them')
