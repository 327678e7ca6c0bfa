"""What XLA's CPU backend runs well of a U-Net, each the equal of a plain form elsewhere."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from models.barrier import apart
from models.cpu import vary_alike


def group_norm(x: Array, scale: Array, bias: Array, shift: Array, groups, epsilon, silu) -> Array:
  """`unet_parts.plain_group_norm`: x is read once for sums per channel, once to be normalised."""
  return _group_norm(*vary_alike(x, scale, bias, shift), groups, epsilon, silu)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _group_norm(x, scale, bias, shift, groups, epsilon, silu):
  return _forward(x, scale, bias, shift, groups, epsilon, silu)[0]


def _forward(x, scale, bias, shift, groups, epsilon, silu):
  x = apart(x)
  sums = _sums(x.astype(jnp.float32))
  a, b = _affine(sums, scale, bias, shift, x.shape[1] * x.shape[2], groups, epsilon)
  y = a[:, None, None] * x + b[:, None, None]
  y = y * lax.logistic(y) if silu else y
  return apart(y.astype(x.dtype)), (x, sums, scale, bias, shift)


def _sums(x):
  """`[B, C]` each: of values, of their squares."""
  return x.sum((1, 2)), (x * x).sum((1, 2))


def _affine(sums, scale, bias, shift, pixels, groups, epsilon):
  """The a and b, `[B, C]`, of the normalised `a x + b`."""
  mean, square = (s / pixels for s in sums)
  mean, square = mean + shift, square + 2 * shift * mean + shift * shift
  mean, square = (
    jnp.repeat(m.reshape(len(m), groups, -1).mean(-1), m.shape[1] // groups, axis=1)
    for m in (mean, square)
  )
  a = scale * lax.rsqrt(jnp.maximum(square - mean * mean, 0) + epsilon)
  return a, bias + a * (shift - mean)


def _backward(groups, epsilon, silu, saved, dy):
  x, sums, *rest = saved
  pixels = x.shape[1] * x.shape[2]
  affine = functools.partial(_affine, pixels=pixels, groups=groups, epsilon=epsilon)
  (a, b), pull = jax.vjp(affine, sums, *rest)
  dz = dy.astype(jnp.float32)
  if silu:
    z = a[:, None, None] * x + b[:, None, None]
    s = lax.logistic(z)
    dz = dz * (s * (1 + z * (1 - s)))
  dz = apart(dz)
  da, db = (dz * x).sum((1, 2)), dz.sum((1, 2))
  (d1, d2), *others = pull((da, db))
  dx = a[:, None, None] * dz + (2 * d2[:, None, None] * x + d1[:, None, None])
  return (apart(dx.astype(x.dtype)), *others)


_group_norm.defvjp(_forward, _backward)


def attend(q: Array, k: Array, v: Array) -> Array:
  """Softmax attention, `[B, T, H, d]` to `[B, S, H, d]`, heads first in memory."""
  q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # [B, H, T, d]
  scores = jnp.einsum('bhtd,bhsd->bhts', q, k, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5).astype(v.dtype)
  return jnp.einsum('bhts,bhsd->bhtd', weights, v).swapaxes(1, 2)
