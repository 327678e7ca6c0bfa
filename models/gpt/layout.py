"""How others' files name and shape a GPT's parameters: tables, read and written by one loop."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from models.gpt.model import GPT
from models.gpt.parameters import specs
from models.weights.checks import check_tensors, shown
from models.weights.files import Tensor

Path = tuple[str, ...]
Table = Mapping[str, list[Path]]
"""Their name (`{}` for a layer's number) -> our paths, whose arrays lie side by side in it."""

# Ours -> theirs.
LEAF_NAMES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


@dataclasses.dataclass(frozen=True)
class Family:
  """Models whose files have one layout.

  Attributes:
    what: such as 'GPT-2', for messages.
    kinds: what config.json calls them, `model_type`.
    prefix: of the names in files, where these are not those of a base model.
    embedding: the tensor that a tied head shares.
    tied: whether the head is tied where config.json does not say.
    transposed: whether kernels are `[out, in]`, as torch has them, and not `[in, out]`.
    biased: whether the files have all biases, zeros where a model has none.
    buffers: names of tensors that are no parameters.
    check: raises ValueError for a setting of config.json that is not honoured; takes the file's
      path and the object in it.
    fields: GPT's fields of these two, but for `tied`.
    table: of a model.
    check_model: raises ValueError where such files cannot express the model.
    config: config.json of a model, but for its kind of numbers.
  """

  what: str
  kinds: tuple[str, ...]
  prefix: str
  embedding: str
  tied: bool
  transposed: bool
  biased: bool
  buffers: re.Pattern[str]
  check: Callable[[pathlib.Path, Mapping[str, Any]], None]
  fields: Callable[[pathlib.Path, Mapping[str, Any]], dict[str, Any]]
  table: Callable[[GPT], Table]
  check_model: Callable[[GPT], None]
  config: Callable[[GPT], dict[str, Any]]


# -------- config.json --------


def size(path: pathlib.Path, config: Mapping[str, Any], *names: str) -> int | None:
  """Returns the number that has one of the names, of which the first wins; None: the file has none.

  Raises:
    ValueError: it is no whole number from 1 to 2^31 - 1, or two names say two numbers.
  """
  found = {name: config[name] for name in names if config.get(name) is not None}
  for name, value in found.items():
    if type(value) is not int or not 0 < value < 2**31:
      raise ValueError(f'{path}: {name}={shown(value)} should be a whole number of at least 1')
  if len(set(found.values())) > 1:
    said = ', '.join(f'{name}={value}' for name, value in found.items())
    raise ValueError(f'{path}: {said} contradict each other')
  return next(iter(found.values()), None)


def check_fields(model: GPT, what: str, wanted: Mapping[str, Any]) -> None:
  """Raises ValueError unless the model is a GPT whose fields have these values."""
  if type(model) is not GPT:  # a subclass may compute something else with the same weights
    raise ValueError(f'{type(model).__name__}: {what} files can only say GPT')
  for name, value in wanted.items():
    if getattr(model, name) != value:
      raise ValueError(
        f'model.{name}={getattr(model, name)!r}: {what} files can only say {value!r}'
      )


# -------- tensors --------


def shape_of(family: Family, table: Any, paths: Sequence[Path]) -> tuple[int, ...]:
  """Returns the shape of the arrays side by side in their file; of one layer if stacked."""
  shapes = [look_up(table, path)[0] for path in paths]
  *rest, _ = shapes[0]
  whole = (*rest, sum(shape[-1] for shape in shapes))
  whole = whole[1:] if paths[0][0] == 'blocks' else whole
  return whole[::-1] if is_turned(family, paths[0]) else whole


def is_turned(family: Family, path: Path) -> bool:
  """Returns whether an array lies the other way round in the files."""
  return family.transposed and path[-1] == 'kernel'


def look_up(tree: Any, path: Path) -> Any:
  """Returns the leaf at that path, or None."""
  for name in path:
    tree = tree.get(name) if isinstance(tree, Mapping) else None
  return tree


def put(tree: dict[str, Any], path: Path, leaf: Any) -> None:
  """Sets the leaf at that path of nested dicts."""
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = leaf


def shapes(family: Family, model: GPT) -> dict[str, tuple[list[Path], tuple[int, ...]]]:
  """Returns the table of a model with the shape of each tensor."""
  table = specs(model.clone(bias=model.bias or family.biased, vocab_multiple=1))
  named = family.table(model)
  return {name: (paths, shape_of(family, table, paths)) for name, paths in named.items()}


def to_ours(
  family: Family, model: GPT, tensors: dict[str, Tensor], folder: pathlib.Path
) -> dict[str, Any]:
  """Returns our tree of parameters, float32; each tensor is read when it is stacked.

  Raises:
    ValueError: a tensor is missing, unknown, or not of its shape.
  """
  if model.tied:
    tensors = {name: x for name, x in tensors.items() if name != 'lm_head.weight'}
  known = shapes(family, model)
  check_names(family, folder, tensors, model.layers, known)
  params: dict[str, Any] = {}
  for name, (paths, shape) in known.items():
    if '{}' in name:
      whole = stacked(tensors, name, model.layers, shape, turned=is_turned(family, paths[0]))
    else:
      whole = np.asarray(tensors[name], np.float32)
    for path, own in zip(paths, np.split(whole, len(paths), axis=-1), strict=True):
      put(params, path, np.ascontiguousarray(own))
  return params


def stacked(
  tensors: Mapping[str, Tensor], name: str, layers: int, shape: tuple[int, ...], *, turned: bool
) -> np.ndarray:
  """Returns the tensors of that name of all layers, float32 `[layers, ...]`."""
  whole = np.empty((layers, *(shape[::-1] if turned else shape)), np.float32)
  for i in range(layers):
    own = np.asarray(tensors[name.format(i)])
    whole[i] = own.T if turned else own
  return whole


def check_names(
  family: Family, folder: pathlib.Path, tensors: Mapping[str, Tensor], layers: int, known: Any
) -> None:
  """Raises ValueError for the first tensor that is missing, unknown, or not of its shape."""
  if layers > len(tensors):  # before a name is made for each of them
    raise ValueError(f'{folder}: holds {len(tensors)} tensors, too few for {layers} layers')
  shapes = {
    name.format(i): shape
    for name, (_, shape) in known.items()
    for i in (range(layers) if '{}' in name else (0,))
  }
  check_tensors(folder, f'a {family.what} of its config.json', tensors, shapes)


def to_theirs(family: Family, model: GPT, params: Any) -> dict[str, np.ndarray]:
  """Returns their tensors by name, float32: views of the parameters where layouts agree."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
  tensors = {}
  for name, (paths, shape) in shapes(family, model).items():
    for i in range(model.layers) if '{}' in name else (None,):
      prefix = '' if name == 'lm_head.weight' else family.prefix
      own = joined(params, paths, i, shape)
      own = np.ascontiguousarray(own.T) if is_turned(family, paths[0]) else own
      tensors[prefix + name.format(i)] = own
  return tensors


def joined(params: Any, paths: Sequence[Path], layer: int | None, shape: tuple[int, ...]) -> Any:
  """Returns one layer's arrays side by side; zeros for biases that the model does not have."""
  found = [look_up(params, path) for path in paths]
  if found[0] is None:
    return np.zeros(shape, np.float32)
  own = [x if layer is None else x[layer] for x in found]
  whole = own[0] if len(own) == 1 else np.concatenate(own, axis=-1)
  if paths[0][-1] == 'embedding':
    whole = whole[: shape[0]]  # without rows that fill up the vocabulary
  return np.ascontiguousarray(whole)
