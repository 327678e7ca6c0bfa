"""The layout in which a CPU reads a transformer's weights and cache, one new token at a time.

A step reads every weight once for a handful of rows, and what bounds it is how fast they are read.
Three things that XLA would otherwise do in every step are done once, before the loop: each layer
gets weights of its own, instead of slices that are copied; kernels are transposed, since XLA reads
those faster; and each layer gets its own part of the cache, with the heads as sequences of their
own, so that it is written in place. This is layout alone: what a layer computes is the model's.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

FEW_ROWS = 128  # up to which `dense_transposed` is faster than the plain product


def layer_weights(blocks: Any, dtype: str, joined: Mapping[str, Sequence[str]]) -> list[Any]:
  """Returns each layer's weights, its kernels as `transposed` `[F, C]` in `dtype`.

  Args:
    blocks: the weights of all layers by name, stacked: `{'up': {'kernel': [layers, C, F]}}`.
    dtype: of the kernels; what is not a kernel stays as it is.
    joined: names of products that read the same inputs, under the name that takes their place.
  """
  blocks = jax.tree.map(jnp.asarray, blocks)  # once onto the device, not once a layer
  layers = len(jax.tree.leaves(blocks)[0])
  groups = tuple((name, tuple(parts)) for name, parts in joined.items())
  # The layer's number is no part of what is compiled: one program does for all.
  return [_layer_weights(blocks, np.int32(i), dtype, groups) for i in range(layers)]


@functools.partial(jax.jit, static_argnames=('dtype', 'groups'))
def _layer_weights(blocks: Any, layer: Array, dtype: str, groups: Any) -> dict[str, Any]:
  weights = jax.tree.map(lambda x: x[layer], blocks)
  for name, parts in groups:
    own = [weights.pop(part) for part in parts]
    # Side by side along F, as `dense_each` would join them in every step.
    weights[name] = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, -1), *own)
  return {name: _transposed(own, dtype) for name, own in weights.items()}


def _transposed(weights: dict[str, Array], dtype: str) -> dict[str, Array]:
  others = {name: leaf for name, leaf in weights.items() if name != 'kernel'}
  if 'kernel' in weights:
    # Cast here and once: what bounds a step is how many bytes of weights it reads.
    others['transposed'] = weights['kernel'].astype(dtype).T
  return others


def layer_slots(slots: Array) -> list[Array]:
  """Returns keys or values `[layers, B, N, K, d]` as `[B * K, N, d]` for each layer.

  With B as an axis of its own XLA drops it in a batch of 1 and copies the whole cache for that.
  """
  layers, B, N, K, d = slots.shape
  apart = [jnp.squeeze(own, 0) for own in lax.split(slots, (1,) * layers)]  # [B, N, K, d] each
  return [jnp.moveaxis(own, 2, 1).reshape(B * K, N, d) for own in apart]


def accepts(x: Array) -> bool:
  """Returns whether `x` `[B, C]` has few enough rows for `dense_transposed`."""
  return x.shape[0] <= FEW_ROWS


def dense_transposed(x: Array, kernel: Array) -> Array:
  """Returns `x @ kernel.T` as `(kernel @ x.T).T`: `[B, C]` with `[F, C]`.

  The barriers keep XLA from moving the transpositions into the product, which it then computes
  several times as slowly.
  """
  if x.shape[0] == 1:  # a product with a vector, whose transposition is nothing
    return lax.dot_general(x, kernel, (((1,), (1,)), ((), ())))
  return lax.optimization_barrier(kernel @ lax.optimization_barrier(x.T)).T
