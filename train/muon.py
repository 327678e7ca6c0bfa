"""Which parameters Muon sees as hidden matrices, and the scale of their updates."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from optax import contrib


def hidden(path: tuple[str, ...]) -> bool:
  """Returns whether the parameter at this path is a hidden matrix, by its name `kernel`."""
  return path[-1] == 'kernel'


def matrices(params: Any) -> Any:
  """Returns which axes of each kernel are the rows and columns of a matrix.

  Kernels are `[in, out]`, a stack of layers' `[layers, in, out]`, or a convolution's
  `[height, width, in, out]`, whose rows are the first three axes.
  """

  def numbers(kernel: Any) -> contrib.MuonDimensionNumbers:
    rows = (0, 1, 2) if kernel.ndim == 4 else kernel.ndim - 2
    return contrib.MuonDimensionNumbers(rows, kernel.ndim - 1)

  return jax.tree.map(numbers, params)


def like_adam(update: Array) -> Array:
  """Makes the elements of an orthogonal matrix as large as AdamW's, by its rows and columns."""
  *rows, columns = update.shape if update.ndim != 3 else update.shape[1:]
  return update * (0.2 * math.sqrt(max(math.prod(rows), columns)))


def apart(
  chosen: Callable[[tuple[str, ...]], bool],
  first: optax.GradientTransformation,
  second: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """Applies `first` to the parameters whose path is `chosen`, `second` to the others.

  Unlike optax.partition it leaves no holes in the states, which have logical axes to be found.
  """

  def split(tree: Any) -> tuple[Any, Any]:
    flat = flatten_dict(tree)
    return tuple(
      unflatten_dict({path: leaf for path, leaf in flat.items() if chosen(path) == wanted})
      for wanted in (True, False)
    )

  def init(params: Any) -> tuple[Any, Any]:
    ours, others = split(params)
    return first.init(ours), second.init(others)

  def update(updates: Any, state: tuple[Any, Any], params: Any = None) -> tuple[Any, tuple]:
    of_params = (None, None) if params is None else split(params)
    both = zip((first, second), split(updates), state, of_params, strict=True)
    (ours, state1), (others, state2) = (each.update(*arguments) for each, *arguments in both)
    return unflatten_dict(flatten_dict(ours) | flatten_dict(others)), (state1, state2)

  return optax.GradientTransformation(init, update)
