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

from models.weights.checks import check_tensors
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

  if isinstance(names, str):
    return TensorSource((names,), (first * n, *rest), convert)
  return TensorSource(tuple(names), (first * n, *rest), convert, stacked=True)


def num_classes(files: Files, head: str) -> int:
  """Returns the number of outputs of the layer of that name; ValueError if there is none."""
  found = files.tensors.get(f'{head}.weight')
  if found is None or len(found.shape) != 2 or not 0 < found.shape[0] < 2**20:
    raise ValueError(f'{files.path}: has no classifier {head}.weight; a backbone alone is not read')
  return found.shape[0]


def shapes_of(module: nn.Module, *shapes: Shape) -> dict[Path, Shape]:
  """Returns the shape of each variable by its path, for float32 inputs of these shapes."""
  # Without any array: a file may speak of images of any size.
  inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
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
  shapes = {name: each.shape for each in sources.values() for name in each.names}
  check_tensors(where, what, tensors, shapes)
  check_floats(where, tensors)
  variables: dict[str, Any] = {}
  for path, each in sources.items():
    arrays = [each.convert(np.asarray(tensors[name], np.float32)) for name in each.names]
    *places, leaf = path
    tree = variables
    for name in places:
      tree = tree.setdefault(name, {})
    tree[leaf] = np.stack(arrays) if each.stacked else np.ascontiguousarray(arrays[0])
  return variables
