"""An adaptive solver for batches: Dormand and Prince 1980, order 5 with an estimate of order 4.

Each example has its own time, step and error, so a result does not depend on the batch that it is
in; and the field is called with the whole batch, as networks are sharded and compiled for it. The
loop is compiled around a single call of the field, which keeps a network's compilation short.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion.process import like

# Butcher's tableau; the last stage is the solution of order 5, and the next step's first.
C = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
A = np.array(
  [
    [0, 0, 0, 0, 0, 0, 0],
    [1 / 5, 0, 0, 0, 0, 0, 0],
    [3 / 40, 9 / 40, 0, 0, 0, 0, 0],
    [44 / 45, -56 / 15, 32 / 9, 0, 0, 0, 0],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0, 0],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0, 0],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0],
  ]
)
B4 = np.array([5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40])
ERROR = A[6] - B4


class Solution(NamedTuple):
  """y: as given, NaN where the end was not reached. evaluations: int32 `[B]`, of the field."""

  y: Any
  evaluations: Array


class _State(NamedTuple):
  t: Array  # [B]
  h: Array  # [B] > 0, the next step's length
  y: Any
  slope: Any  # at y
  evaluations: Array  # [B]


def solve(
  field: Callable[[Any, Array], Any],
  y: Any,
  start: float,
  end: float,
  *,
  rtol: float = 1e-5,
  atol: float = 1e-5,
  max_steps: int = 1000,
) -> Solution:
  """y, a pytree of `[B, ...]`, carried from time `start` to `end` along field(y, t `[B]`).

  rtol, atol: bounds for a step's error, root mean square over an example's elements; of several
    arrays the worst counts. Below about 1e-6 float32 has no more to give.
  """
  leaf = jax.tree.leaves(y)[0]
  count, dtype, sign = leaf.shape[0], leaf.dtype, 1.0 if end > start else -1.0
  t = jnp.full(count, start, dtype)
  slope = field(y, t)
  span = abs(end - start)
  first = 0.01 * (_norm(y, y, rtol, atol) + 1e-3) / (_norm(slope, y, rtol, atol) + 1e-3)
  state = _State(t, jnp.minimum(first, span), y, slope, jnp.ones(count, jnp.int32))

  def unfinished(state):
    return (state.t - end) * sign < 0

  def step(carry):
    i, state = carry
    active = unfinished(state)
    last = state.h >= (end - state.t) * sign * (1 - 1e-6)
    h = jnp.where(last, (end - state.t) * sign, state.h)
    new, slope, error = _stages(field, state, sign * h)
    size = _norm(error, jax.tree.map(_larger, state.y, new), rtol, atol)
    accepted = active & (size <= 1)
    factor = jnp.clip(0.9 * jnp.maximum(size, 1e-10) ** -0.2, 0.2, 10.0)
    # Not a number: the step went where the field is not defined.
    factor = jnp.where(jnp.isfinite(size), factor, 0.2)
    return i + 1, _State(
      jnp.where(accepted, jnp.where(last, end, state.t + sign * h), state.t),
      jnp.where(active, h * factor, state.h),
      _where(accepted, new, state.y),
      _where(accepted, slope, state.slope),
      state.evaluations + 6 * active,
    )

  _, state = lax.while_loop(
    lambda carry: (carry[0] < max_steps) & unfinished(carry[1]).any(), step, (0, state)
  )
  nan = jax.tree.map(lambda y: jnp.full_like(y, jnp.nan), y)
  return Solution(_where(~unfinished(state), state.y, nan), state.evaluations)


def _stages(field, state: _State, h: Array):
  """(the new y, the field there, the estimated error) after a step h `[B]`."""
  slopes = jax.tree.map(lambda s: jnp.zeros((7, *s.shape), s.dtype).at[0].set(s), state.slope)
  a, c = jnp.asarray(A, h.dtype), jnp.asarray(C, h.dtype)

  def moved(weights, slopes):
    def move(y, s):
      return y + like(h, y) * jnp.tensordot(weights, s, 1)

    return jax.tree.map(move, state.y, slopes)

  def stage(i, carry):
    slopes, _ = carry
    y = moved(a[i], slopes)
    slope = field(y, state.t + c[i] * h)
    return jax.tree.map(lambda s, new: s.at[i].set(new), slopes, slope), y

  slopes, new = lax.fori_loop(1, 7, stage, (slopes, state.y))
  weights = jnp.asarray(ERROR, h.dtype)
  error = jax.tree.map(lambda s: like(h, s[0]) * jnp.tensordot(weights, s, 1), slopes)
  return new, jax.tree.map(lambda s: s[6], slopes), error


def _norm(x, scale, rtol, atol):
  """float `[B]`: x relative to the tolerance at `scale`."""

  def leaf(x, y):
    ratio = x / (atol + rtol * abs(y))
    return jnp.sqrt(jnp.square(ratio).reshape(x.shape[0], -1).mean(1))

  return jnp.stack(jax.tree.leaves(jax.tree.map(leaf, x, scale))).max(0)


def _larger(a, b):
  return jnp.maximum(abs(a), abs(b))


def _where(chosen, x, y):
  """Of two pytrees `[B, ...]`, x's examples where chosen `[B]`, else y's."""

  def leaf(a, b):
    return jnp.where(chosen.reshape(chosen.shape + (1,) * (a.ndim - 1)), a, b)

  return jax.tree.map(leaf, x, y)
