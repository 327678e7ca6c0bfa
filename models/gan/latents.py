"""Latents: how z is drawn, and a path from one to another."""

import math

import jax
import jax.numpy as jnp
from jax import Array

DISTRIBUTIONS = ('normal', 'uniform')  # each of variance 1


def draw(keys: Array, size: int, distribution: str = 'normal') -> Array:
  """Returns a latent for each of keys `[B]`, float32 `[B, size]`, of mean 0 and variance 1."""
  if distribution == 'normal':
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)
  bound = math.sqrt(3)
  return jax.vmap(lambda key: jax.random.uniform(key, (size,), minval=-bound, maxval=bound))(keys)


def interpolate(start: Array, end: Array, stages: int, distribution: str = 'normal') -> Array:
  """Returns `[B, stages, size]` from latents `[B, size]` to others, both ends among them.

  Of uniform latents along a straight line, which stays in their cube. Normal latents of many
  dimensions lie near a sphere, whose inside networks have not seen: along its great circle.
  """
  t = jnp.linspace(0, 1, stages).reshape(1, -1, 1)
  a, b = start[:, None], end[:, None]
  if distribution == 'uniform':
    return (1 - t) * a + t * b
  cosine = (a * b).sum(-1, keepdims=True) / (norm(a) * norm(b))
  angle = jnp.arccos(jnp.clip(cosine, -0.9999, 0.9999))  # so that the sine is not 0
  return (jnp.sin((1 - t) * angle) * a + jnp.sin(t * angle) * b) / jnp.sin(angle)


def norm(x: Array) -> Array:
  """Returns the Euclidean norm of the last axis, kept with size 1."""
  return jnp.linalg.norm(x, axis=-1, keepdims=True)
