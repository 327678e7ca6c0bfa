"""An adaptive ODE solver for batches: Runge-Kutta 5(4) of Dormand and Prince 1980.

Each example has its own time, step size and error, so its result does not depend on its batch. The
field is evaluated on the whole batch, as networks are sharded and compiled for it. The loop
contains a single call of the field, so that a network is compiled once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion.process import expand_like

# Butcher's tableau. The last stage is at the solution of order 5, and is the next step's first.
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
  """The end of the solution.

  y: like the initial y; NaN where the end was not reached in `max_steps`.
  num_evaluations: int32 `[B]`, evaluations of the field per example.
  """

  y: Any
  num_evaluations: Array


class _State(NamedTuple):
  t: Array  # [B]
  h: Array  # [B] the size of the next step, > 0
  y: Any
  slope: Any  # the field at y
  num_evaluations: Array  # [B]


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
  """Solves dy/dt = field(y, t) from time `start` to `end`, which may be earlier.

  Args:
    field: maps (y, t `[B]`) to dy/dt, like y.
    y: the initial value, a pytree of `[B, ...]`.
    start: the time of y.
    end: the time of the result.
    rtol: relative tolerance of a step's error, the root mean square over an example's elements
      (with several arrays the largest). Below about 1e-6 float32 rounding dominates.
    atol: absolute tolerance.
    max_steps: accepted and rejected steps after which an example is given up.
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
    # NaN: the step reached a place where the field is not defined.
    factor = jnp.where(jnp.isfinite(size), factor, 0.2)
    return i + 1, _State(
      jnp.where(accepted, jnp.where(last, end, state.t + sign * h), state.t),
      jnp.where(active, h * factor, state.h),
      _where(accepted, new, state.y),
      _where(accepted, slope, state.slope),
      state.num_evaluations + 6 * active,
    )

  _, state = lax.while_loop(
    lambda carry: (carry[0] < max_steps) & unfinished(carry[1]).any(), step, (0, state)
  )
  nan = jax.tree.map(lambda y: jnp.full_like(y, jnp.nan), y)
  return Solution(_where(~unfinished(state), state.y, nan), state.num_evaluations)


def _stages(field, state: _State, h: Array):
  """Returns (y after a step h `[B]`, the field there, the estimated error)."""
  slopes = jax.tree.map(lambda s: jnp.zeros((7, *s.shape), s.dtype).at[0].set(s), state.slope)
  a, c = jnp.asarray(A, h.dtype), jnp.asarray(C, h.dtype)

  def moved(weights, slopes):
    def move(y, s):
      return y + expand_like(h, y) * jnp.tensordot(weights, s, 1)

    return jax.tree.map(move, state.y, slopes)

  def stage(i, carry):
    slopes, _ = carry
    y = moved(a[i], slopes)
    slope = field(y, state.t + c[i] * h)
    return jax.tree.map(lambda s, new: s.at[i].set(new), slopes, slope), y

  slopes, new = lax.fori_loop(1, 7, stage, (slopes, state.y))
  weights = jnp.asarray(ERROR, h.dtype)
  error = jax.tree.map(lambda s: expand_like(h, s[0]) * jnp.tensordot(weights, s, 1), slopes)
  return new, jax.tree.map(lambda s: s[6], slopes), error


def _norm(x, scale, rtol, atol):
  """Returns the size of x relative to the tolerance at `scale`, float `[B]`."""

  def leaf(x, y):
    ratio = x / (atol + rtol * abs(y))
    return jnp.sqrt(jnp.square(ratio).reshape(x.shape[0], -1).mean(1))

  return jnp.stack(jax.tree.leaves(jax.tree.map(leaf, x, scale))).max(0)


def _larger(a, b):
  return jnp.maximum(abs(a), abs(b))


def _where(chosen, x, y):
  """Returns the pytree with x's examples where chosen `[B]`, else y's."""

  def leaf(a, b):
    return jnp.where(chosen.reshape(chosen.shape + (1,) * (a.ndim - 1)), a, b)

  return jax.tree.map(leaf, x, y)
