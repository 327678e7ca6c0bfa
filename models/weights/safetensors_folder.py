"""Reads the tensors of safetensors: of one file, or of the shards that an index names."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

Reader = Callable[[pathlib.Path], Mapping[str, Any]]  # of the tensors of one file by name
DTYPES = ('F64', 'F32', 'F16', 'BF16')  # others hold quantised weights, whose scales are elsewhere


@dataclasses.dataclass(frozen=True)
class SafeTensor:
  """A tensor of a file, which is read when an array is made of it."""

  path: pathlib.Path
  file: Any
  name: str

  @property
  def dtype(self) -> str:
    """The name of the numbers' type in safetensors, such as 'F32'."""
    return self.file.get_slice(self.name).get_dtype()

  @property
  def shape(self) -> tuple[int, ...]:
    return tuple(self.file.get_slice(self.name).get_shape())

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    try:
      found = self.file.get_tensor(self.name)
    except (SafetensorError, TypeError, KeyError) as error:
      raise ValueError(f'{self.path}: {self.name} cannot be read ({error})') from None
    return found if dtype is None else found.astype(dtype, copy=False)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object; raises ValueError where there is none."""
  if not path.parent.is_dir():
    raise ValueError(f'{path.parent}: no such folder; it should hold config.json and safetensors')
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  try:
    found = json.loads(path.read_text('utf-8'))
  except (ValueError, RecursionError, OSError) as error:
    raise ValueError(f'{path}: not JSON ({error})') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path}: should be a JSON object')
  return found


def read_tensors(path: pathlib.Path) -> dict[str, SafeTensor]:
  """Returns the tensors of one file by name; none of them is read yet."""
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  try:
    file = safe_open(path, 'np')
    return {name: SafeTensor(path, file, name) for name in file.offset_keys()}
  except (SafetensorError, OSError) as error:
    raise ValueError(f'{path}: cut short, or not a safetensors file ({error})') from None


def read_shards(index: pathlib.Path, read: Reader) -> dict[str, Any]:
  """Returns the tensors that an index names, each from the shard beside it that it names."""
  names = read_json(index).get('weight_map')
  if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
    raise ValueError(f'{index}: weight_map must name the file of each tensor')
  shards = {shard: read(_beside(index, shard)) for shard in sorted(set(names.values()))}
  for name, shard in names.items():
    if name not in shards[shard]:
      raise ValueError(f'{index}: says that {shard} holds {name}, which it does not')
  for shard, tensors in shards.items():
    if unknown := [name for name in tensors if names.get(name) != shard]:
      where = f'{index.parent / shard}: holds {unknown[0]}'
      raise ValueError(f'{where}, which {index.name} does not place there')
  return {name: shards[shard][name] for name, shard in names.items()}


def _beside(index: pathlib.Path, shard: str) -> pathlib.Path:
  """Returns the path of a shard; raises ValueError if it leads out of the index's folder."""
  folder = index.parent
  root, path = folder.resolve(), folder / shard
  # In Hugging Face's cache, snapshots/REVISION holds links to files in blobs/ beside snapshots/;
  # of a model in parts, snapshots/REVISION/unet does.
  cached = [each.parent / 'blobs' for each in root.parents if each.name == 'snapshots'][:1]
  inside = path.absolute().parent.resolve().is_relative_to(root)
  if not inside or not any(path.resolve().is_relative_to(each) for each in (root, *cached)):
    raise ValueError(f'{index}: weight_map names {shard!r}, which lies outside the folder')
  return path


def check_floats(folder: Any, tensors: Mapping[str, Any]) -> None:
  """Raises ValueError unless all tensors are of floats of 16 bits or more."""
  for name, tensor in tensors.items():
    if tensor.dtype not in DTYPES:
      choices = ', '.join(DTYPES)
      raise ValueError(f'{folder}: {name} is of type {tensor.dtype}; must be one of {choices}')
