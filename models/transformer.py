"""What transformers share: products, norms, GELU, dropout, a loop over layers, parameter tables.

GPT (`models/gpt/`), DiT and the U-Net's attention (`models/diffusion/`) are made of these.
Weights are plain dicts of arrays, `{'kernel': [C, F], 'bias': [F]}`; those of all layers are
stacked, `[layers, ...]`. Attention itself is in `models/attention.py`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from models import forms, ops
from models.axes import CONTEXT_AXIS, mesh_size
from models.cpu import text as cpu_text

FUSED_ROWS = 64  # from how many rows on one product for several kernels pays their joining
RUNTIME_FIELDS = ('dropout', 'attention', 'scan', 'remat', 'dtype')
"""The fields that say how a model runs: the same weights can be used with any value of them."""

REMAT = ('none', 'block', 'dots')

Layer = Callable[[Array, Any], tuple[Array, Any]]


# -------- products --------


def dense(x: Array, weights: Any) -> Array:
  """Returns `x @ kernel + bias` in the dtype of x: `[..., C]` to `[..., F]`.

  Args:
    x: `[..., C]`.
    weights: `kernel` `[C, F]`, or its transpose as `transposed` `[F, C]`; `bias` `[F]` may be
      missing.
  """
  # As a matrix, since `ops` chooses the form of a product by its number of rows; but rows of which
  # devices share the tokens would be gathered for that.
  rows = x if mesh_size(CONTEXT_AXIS) > 1 else x.reshape(-1, x.shape[-1])
  if 'transposed' in weights:
    # Only `GPT.decoding_variables` makes these.
    y = ops.dense_transposed(rows, weights['transposed'].astype(x.dtype))
  else:
    y = ops.dense(rows, weights['kernel'].astype(x.dtype))
  if 'bias' in weights:
    y = y + lax.broadcast_to_rank(weights['bias'].astype(x.dtype), y.ndim)
  return y.reshape(*x.shape[:-1], -1)


def dense_each(x: Array, weights: Sequence[Any]) -> list[Array]:
  """Returns `dense(x, own)` for each of several weights.

  They are computed as one product where there are rows enough to pay for joining the kernels, and
  where that would not cut through the part of a device.
  """
  few = x.size // x.shape[-1] < FUSED_ROWS
  if few or mesh_size('tensor') > 1 or 'transposed' in weights[0]:
    return [dense(x, own) for own in weights]
  sizes = [own['kernel'].shape[1] for own in weights]
  leaves = [{name: leaf.astype(x.dtype) for name, leaf in own.items()} for own in weights]
  # One wide product reads x once and fills a device better than several narrow ones.
  joined = jax.tree.map(lambda *own: jnp.concatenate(own, -1), *leaves)
  return list(lax.split(dense(x, joined), sizes, x.ndim - 1))


# -------- norms, GELU, dropout --------


def layer_norm(x: Array, weights: Any, epsilon: float = cpu_text.EPSILON) -> Array:
  """Normalises over the last axis by mean and variance; the `bias` may be missing.

  Ba et al. 2016 (arXiv 1607.06450). Computed in float32, returned in the dtype of x.
  """
  y = _norm(x.astype(jnp.float32), weights['scale'], epsilon, centred=True)
  if 'bias' in weights:
    y = y + lax.broadcast_to_rank(weights['bias'], y.ndim)
  return y.astype(x.dtype)


def rms_norm(x: Array, weights: Any, epsilon: float = cpu_text.EPSILON) -> Array:
  """Divides by the root of the mean square over the last axis (Zhang & Sennrich 2019, eq. 4)."""
  return _norm(x.astype(jnp.float32), weights['scale'], epsilon, centred=False).astype(x.dtype)


def _norm(x: Array, scale: Array, epsilon: float, *, centred: bool) -> Array:
  if forms.formulation() == 'cpu':
    return cpu_text.norm(x, scale, epsilon, centred=centred)
  # In two passes, as E[x^2] - E[x]^2 would lose the small variance of a large mean.
  x = x - x.mean(-1, keepdims=True) if centred else x
  x = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)
  return x * lax.broadcast_to_rank(scale, x.ndim)


NORMS: dict[str, Callable[[Array, Any, float], Array]] = {'layer': layer_norm, 'rms': rms_norm}


def gelu(x: Array) -> Array:
  """Returns GELU by tanh, as GPT-2 has it (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
  return jax.nn.gelu(x, approximate=True)


def dropout(x: Array, rate: float, key: Array) -> Array:
  """Zeroes each unit with probability `rate` and divides the others by `1 - rate`."""
  # Divided here, so that nothing is to be done when it is off.
  kept = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def numbered_dropout(rate: float, key: Array) -> Callable[[Any, int, Array], Array]:
  """Returns `dropout(layer, site, x)`, in which each layer and site has a key of its own.

  So scanned layers, whose numbers are traced, drop what unrolled ones do.
  """

  def drop(layer: Any, site: int, x: Array) -> Array:
    return dropout(x, rate, jax.random.fold_in(jax.random.fold_in(key, layer), site))

  return drop


# -------- layers --------


def apply_layers(
  layer: Layer, x: Array, stacked: Any, *, scan: bool | None = None, remat: str = 'none'
) -> tuple[Array, Any]:
  """Returns x after all layers, and what they put out beside it, stacked.

  Args:
    layer: `(x, own) -> (x, out)`.
    x: activations.
    stacked: a tree of arrays `[layers, ...]`, of which a layer gets its slice as `own`.
    scan: compiles one layer and loops over it. None: unless the program is for a CPU.
    remat: what the backward pass computes anew: 'none', whole layers ('block'), or all of a layer
      but its products with kernels ('dots').
  """
  scan = forms.formulation() != 'cpu' if scan is None else scan
  if remat != 'none':
    # 'dots' keeps products with kernels. Attention's scores, which grow with T^2, are products with
    # batch dimensions, and so are computed anew.
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    # A scan already keeps XLA from merging the two computations of a layer.
    layer = jax.checkpoint(layer, policy=dots if remat == 'dots' else None, prevent_cse=not scan)
  if scan:
    return lax.scan(layer, x, stacked)
  outs = []
  for own in unstack(stacked):
    x, out = layer(x, own)
    outs.append(out)
  return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)  # as a scan would stack them


def unstack(tree: Any) -> list[Any]:
  """Returns a tree for each index of the leading axis.

  By a split rather than by indexing, since the gradient of a split is one concatenation.
  """
  leaves, structure = jax.tree.flatten(tree)
  split = [[x[0] for x in lax.split(leaf, (1,) * leaf.shape[0])] for leaf in leaves]
  return [jax.tree.unflatten(structure, own) for own in zip(*split, strict=True)]


# -------- tables of parameters --------

Spec = tuple[tuple[int, ...], tuple[str | None, ...], Any]
"""A parameter before it has a value: its shape, its logical axis names, its initialiser."""

Specs = dict[str, Spec]
"""The parameters of one product, norm or embedding, by name."""


def stacked_specs(groups: dict[str, Specs], layers: int) -> dict[str, Specs]:
  """Returns the specs of one layer with an axis in front, for all layers."""

  def stack(spec: Spec) -> Spec:
    shape, axes, init = spec
    return (layers, *shape), ('layers', *axes), init

  return jax.tree.map(stack, groups, is_leaf=is_spec)


def is_spec(leaf: Any) -> bool:
  """Returns whether a node of a tree of Specs is one of them."""
  return isinstance(leaf, tuple)


def init_specs(specs: Any, key: Array) -> Any:
  """Returns float32 initial values for a tree of Specs, boxed with their logical axis names."""
  leaves, tree = jax.tree.flatten(specs, is_leaf=is_spec)
  # In the order of the flattened tree: another name for a parameter may draw other values.
  keys = jax.random.split(key, len(leaves))
  values = [
    nn.LogicallyPartitioned(init(key, shape, jnp.float32), axes)
    for key, (shape, axes, init) in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(tree, values)


def unboxed(tree: Any) -> Any:
  """Returns the tree without the boxes that hold logical axis names.

  `nn.unbox` would constrain each value to its mesh axes, also where these do not divide it.
  """
  return jax.tree.map(lambda leaf: leaf.value if _is_box(leaf) else leaf, tree, is_leaf=_is_box)


def _is_box(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


# -------- checks of fields --------


def check_fields(
  module: nn.Module,
  choices: Mapping[str, Collection[Any]],
  positive: Iterable[str],
  not_negative: Iterable[str] = (),
) -> None:
  """Raises ValueError for a field that is none of its choices, or below 1 or 0.

  Args:
    module: whose fields they are.
    choices: field -> the values that it may have.
    positive: fields that are at least 1, or None.
    not_negative: fields that are at least 0.
  """
  for name, texts in choices.items():
    if (value := getattr(module, name)) not in texts:
      raise ValueError(f'model.{name}={value!r}: choose from {", ".join(map(str, texts))}')
  for names, least in ((positive, 1), (not_negative, 0)):
    for name in names:
      if (value := getattr(module, name)) is not None and value < least:
        raise ValueError(f'model.{name}={value}: at least {least}')
