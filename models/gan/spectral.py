"""What keeps a discriminator smooth: spectral normalisation, and the penalty R1."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array, lax

NAMES = ('kernel', 'embedding')


def vectors(params: Any, key: Array) -> Any:
  """Returns a random unit vector `[out]` for each kernel, with which `normalise` begins."""
  flat = {path: leaf for path, leaf in flatten_dict(params).items() if path[-1] in NAMES}
  keys = jax.random.split(key, len(flat))
  drawn = (jax.random.normal(k, x.shape[-1:]) for k, x in zip(keys, flat.values(), strict=True))
  return unflatten_dict({path: unit(u) for path, u in zip(flat, drawn, strict=True)})


def normalise(params: Any, vectors: Any) -> tuple[Any, Any]:
  """Divides each kernel by its largest singular value; returns them, and the new vectors.

  One step of the power method from the vectors, which follow the kernels as these change (Miyato et
  al. 2018, arXiv 1802.05957, algorithm 1). A convolution's kernel is a matrix `[h w in, out]`.
  """
  flat, new = flatten_dict(params), {}
  for path, u in flatten_dict(vectors).items():
    matrix = flat[path].reshape(-1, flat[path].shape[-1])
    v = unit(lax.stop_gradient(matrix) @ u)
    new[path] = unit(v @ lax.stop_gradient(matrix))
    flat[path] = flat[path] / (v @ matrix @ new[path])
  return unflatten_dict(flat), unflatten_dict(new)


def unit(x: Array) -> Array:
  """Returns a vector divided by its norm."""
  return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


def squared_gradients(discriminate: Callable[[Array], Array], images: Array) -> Array:
  """Returns |grad_x D(x)|² `[B]` of images `[B, H, W, C]` (Mescheder et al. 2018, eq. 9).

  discriminate: maps images to logits `[B]`. Trace it under `models.ops.use('plain')`: the forms for
  a CPU have no second derivatives.
  """
  gradients = jax.grad(lambda x: discriminate(x).sum())(images)
  return jnp.square(gradients).sum((1, 2, 3))
