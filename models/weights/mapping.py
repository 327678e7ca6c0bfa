"""Maps tensors of PyTorch models to the variables of a network here, and checks each.

A layer's kernel is `[out, in, h, w]` or `[out, in]` there, `[h, w, in, out]` or `[in, out]` here;
what else differs a network's sources say.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from models.weights.files import Files, Tensor
from models.weights.safetensors_folder import check_floats

Path = tuple[str, ...]
Shape = tuple[int, ...]

# BatchNorm's count of batches, which nothing here reads.
UNUSED = re.compile(r'(.*\.)?num_batches_tracked')
LEAVES = {
  **{'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'},
  **{'mean': 'running_mean', 'var': 'running_var', 'embedding': 'weight'},
}


class Network(NamedTuple):
  """A network that was read.

  Attributes:
    section: its section `model` of a config.
    variables: float32 NumPy.
    num_classes: of its labels; 0 for none.
  """

  section: dict[str, Any]
  variables: dict[str, Any]
  num_classes: int


@dataclasses.dataclass(frozen=True)
class TensorSource:
  """Where a variable is found, and in which form.

  Attributes:
    names: of the tensors.
    shape: of each tensor.
    convert: a tensor's array to ours.
    stacked: whether there is one for each layer.
  """

  names: tuple[str, ...]
  shape: Shape
  convert: Callable[[np.ndarray], np.ndarray]
  stacked: bool = False


def source(
  names: str | Sequence[str], shape: Shape, *, part: tuple[int, int] = (0, 1)
) -> TensorSource:
  """Returns the source of a kernel, or of a vector.

  Args:
    names: of one tensor, or of those of several layers.
    shape: of our array, without the axis of the layers.
    part: (i, n), where it is the i-th of n equal parts of the tensor's first axis.
  """
  axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape), tuple(range(len(shape))))
  first, *rest = (shape[axis] for axis in axes)
  back, (i, n) = np.argsort(axes), part

  def convert(x: np.ndarray) -> np.ndarray:
    return x[i * first : (i + 1) * first].transpose(back)

  alone = isinstance(names, str)
  return TensorSource((names,) if alone else tuple(names), (first * n, *rest), convert, not alone)


def num_classes(files: Files, head: str) -> int:
  """Returns the number of outputs of the layer of that name; ValueError if there is none."""
  found = files.tensors.get(f'{head}.weight')
  if found is None or len(found.shape) != 2 or not 0 < found.shape[0] < 2**20:
    raise ValueError(f'{files.path}: has no classifier {head}.weight; a backbone alone is not read')
  return found.shape[0]


def shapes_of(module: nn.Module, *inputs: Any) -> dict[Path, Shape]:
  """Returns the shape of each variable of a network by its path, such as ('params', 'stem')."""
  variables = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), *inputs))
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  return {tuple(key.key for key in path): leaf.shape for path, leaf in leaves}


def take(
  where: Any, what: str, tensors: Mapping[str, Tensor], sources: Mapping[Path, TensorSource]
) -> dict[str, Any]:
  """Returns the variables, float32 NumPy, each read when it is converted.

  Args:
    where: the file, for messages.
    what: the network, likewise.
    tensors: by name.
    sources: of every variable.

  Raises:
    ValueError: a tensor is missing, unknown, or not of its shape or type.
  """
  tensors = {name: x for name, x in tensors.items() if not UNUSED.fullmatch(name)}
  _check(where, what, tensors, sources)
  variables: dict[str, Any] = {}
  for path, each in sources.items():
    arrays = [each.convert(np.asarray(tensors[name], np.float32)) for name in each.names]
    *places, leaf = path
    tree = variables
    for name in places:
      tree = tree.setdefault(name, {})
    tree[leaf] = np.stack(arrays) if each.stacked else np.ascontiguousarray(arrays[0])
  return variables


def _check(where: Any, what: str, tensors: Mapping[str, Tensor], sources: Any) -> None:
  shapes = {name: each.shape for each in sources.values() for name in each.names}
  if missing := [name for name in shapes if name not in tensors]:
    raise ValueError(f'{where}: lacks {some(missing)} of {what}')
  if unknown := [name for name in tensors if name not in shapes]:
    raise ValueError(f'{where}: holds {some(unknown)}, which {what} has not')
  for name, shape in shapes.items():
    if (found := tensors[name].shape) != shape:
      raise ValueError(f'{where}: {name} is of shape {found}, of {what} it should be {shape}')
  check_floats(where, tensors)


def check_settings(where: Any, config: Mapping[str, Any], honoured: Mapping[str, Any]) -> None:
  """Raises ValueError for a setting of `config.json` whose value the network does not honour.

  honoured: setting -> the values that are; the first is what a file means that leaves it out.
  """
  for name, values in honoured.items():
    if (value := config.get(name, values[0])) not in values:
      raise ValueError(
        f'{where}/config.json: {name}={shown(value)} is not supported, only'
        f' {", ".join(map(repr, values))}'
      )


def shown(value: Any) -> str:
  """Returns the beginning of a value's repr."""
  return text if len(text := repr(value)) <= 60 else f'{text[:60]}...'


def some(names: Sequence[str]) -> str:
  """Returns the first three names, and how many more there are."""
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return ', '.join(names[:3]) + more
