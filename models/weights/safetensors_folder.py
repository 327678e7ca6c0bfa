"""Reads the tensors of a folder of safetensors: one file, or the shards that an index names."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
DTYPES = ('F64', 'F32', 'F16', 'BF16')  # others hold quantised weights, whose scales are elsewhere


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor of a file, which is read when an array is made of it."""

  path: pathlib.Path
  file: Any
  name: str

  @property
  def dtype(self) -> str:
    """As safetensors names it, such as 'F32'."""
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


def read_folder(folder: pathlib.Path) -> dict[str, Tensor]:
  """Returns the tensors by name, without the prefix 'transformer.'; none of them is read yet.

  Raises:
    ValueError: a file is missing, cut short or outside of the folder, or a tensor is not of floats.
  """
  if (folder / SINGLE).is_file():
    found = read_tensors(folder / SINGLE)
  elif (folder / INDEX).is_file():
    found = _read_shards(folder)
  elif any(folder.glob('pytorch_model*.bin')):
    raise ValueError(
      f'{folder}: holds pytorch_model.bin, which is a pickle and can run code; only'
      ' model.safetensors is read (transformers converts: save_pretrained)'
    )
  else:
    raise ValueError(f'{folder}: holds neither {SINGLE} nor {INDEX}')
  bare = {name.removeprefix('transformer.'): x for name, x in found.items()}
  if len(bare) < len(found):
    twice = next(name for name in found if f'transformer.{name}' in found)
    raise ValueError(f'{folder}: holds both {twice} and transformer.{twice}')
  return bare


def read_tensors(path: pathlib.Path) -> dict[str, Tensor]:
  """Returns the tensors of one file by name; none of them is read yet."""
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  try:
    file = safe_open(path, 'np')
    return {name: Tensor(path, file, name) for name in file.offset_keys()}
  except (SafetensorError, OSError) as error:
    raise ValueError(f'{path}: cut short, or not a safetensors file ({error})') from None


def _read_shards(folder: pathlib.Path) -> dict[str, Tensor]:
  """Returns the tensors that the index names, each from the shard that it names."""
  path = folder / INDEX
  names = read_json(path).get('weight_map')
  if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
    raise ValueError(f'{path}: weight_map must name the file of each tensor')
  shards = {shard: read_tensors(_inside(folder, shard)) for shard in sorted(set(names.values()))}
  for name, shard in names.items():
    if name not in shards[shard]:
      raise ValueError(f'{path}: says that {shard} holds {name}, which it does not')
  for shard, tensors in shards.items():
    if unknown := [name for name in tensors if names.get(name) != shard]:
      raise ValueError(f'{folder / shard}: holds {unknown[0]}, which {INDEX} does not place there')
  return {name: shards[shard][name] for name, shard in names.items()}


def _inside(folder: pathlib.Path, shard: str) -> pathlib.Path:
  """Returns the path of a shard; raises ValueError if it leads out of the folder."""
  root, path = folder.resolve(), folder / shard
  # In Hugging Face's cache, snapshots/REVISION holds links to files in blobs/ beside snapshots/.
  roots = [root, root.parents[1] / 'blobs'] if root.parent.name == 'snapshots' else [root]
  inside = path.absolute().parent.resolve().is_relative_to(root)
  if not inside or not any(path.resolve().is_relative_to(each) for each in roots):
    raise ValueError(f'{folder / INDEX}: weight_map names {shard!r}, which lies outside the folder')
  return path


def check_floats(folder: pathlib.Path, tensors: Mapping[str, Tensor]) -> None:
  """Raises ValueError unless all tensors are of floats of 16 bits or more."""
  for name, tensor in tensors.items():
    if tensor.dtype not in DTYPES:
      choices = ', '.join(DTYPES)
      raise ValueError(f'{folder}: {name} is of type {tensor.dtype}; must be one of {choices}')
