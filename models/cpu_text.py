"""What XLA's CPU backend runs well of a language model; each equals a plain form elsewhere."""

import math

import jax
import jax.numpy as jnp
from jax import Array

SLOPE, CUBE = math.sqrt(2 / math.pi), 0.044715


@jax.custom_vjp
def gelu(x: Array) -> Array:
  """`jax.nn.gelu(x, approximate=True)`; its slope is kept, so that tanh is computed once."""
  return _gelu_forward(x)[0]


def _gelu_forward(x):
  t = jnp.tanh(SLOPE * (x + CUBE * x * x * x))
  half = 0.5 * (1 + t)
  slope = half + 0.5 * x * (1 - t * t) * SLOPE * (1 + 3 * CUBE * x * x)
  return x * half, slope


gelu.defvjp(_gelu_forward, lambda slope, dy: (slope * dy,))
