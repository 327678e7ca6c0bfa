"""Public weights on disk, a folder or one file, of which each part is read when it is asked for."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from models.weights import safetensors_folder, torch_file

# The names that Hugging Face's libraries give to a file of weights, or to the index of its shards.
STEMS = ('model', 'diffusion_pytorch_model', 'pytorch_model')
INDEX = '.index.json'
KNOWN = [
  f'{stem}{suffix}{end}'
  for suffix in ('.safetensors', '.bin')
  for stem in STEMS
  for end in ('', INDEX)
]
SUFFIXES = ('.safetensors', '.bin', '.pth', '.pt', '.ckpt')
# Folders of a diffusion pipeline that hold its network, averages first.
NETWORKS = ('unet_ema', 'unet')


class Tensor(Protocol):
  """A tensor of a file, which is read when an array is made of it."""

  @property
  def dtype(self) -> str: ...  # as safetensors names it, such as 'F32'

  @property
  def shape(self) -> tuple[int, ...]: ...

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...


class Files:
  """A folder of weights, or one file.

  path: the folder or file; of a diffusion pipeline, its network's folder.
  folder: the folder itself, or the file's.
  """

  def __init__(self, path: str | pathlib.Path):
    self.path = pathlib.Path(path)
    if not self.path.exists():
      raise ValueError(f'{self.path}: no such folder or file')
    if not (self.path / 'config.json').is_file():
      inner = (self.path / name for name in NETWORKS)
      self.path = next((each for each in inner if (each / 'config.json').is_file()), self.path)
    self.folder = self.path if self.path.is_dir() else self.path.parent
    self.part = ''  # of the file that holds the weights, once they are opened

  @functools.cached_property
  def config(self) -> dict[str, Any]:
    """The object in `config.json` of the folder; {} where there is none."""
    known = self.path.is_dir() or self.path.name in KNOWN
    path = self.folder / 'config.json'
    return safetensors_folder.read_json(path) if known and path.is_file() else {}

  @functools.cached_property
  def tensors(self) -> Mapping[str, Tensor]:
    """The tensors by name, none of them read yet.

    Raises:
      ValueError: they are not there, are cut short, or ask for more than tensors.
    """
    path = _weights_of(self.path) if self.path.is_dir() else self.path
    if path.name.endswith(INDEX):
      return safetensors_folder.read_shards(path, self._read)
    return self._read(path)

  def _read(self, path: pathlib.Path) -> Mapping[str, Tensor]:
    if _is_torch(path):
      tensors, self.part = torch_file.read_tensors(path)
      return tensors
    return safetensors_folder.read_tensors(path)


def _weights_of(folder: pathlib.Path) -> pathlib.Path:
  """Returns the one file of weights in a folder, or the index of several."""
  if known := [folder / name for name in KNOWN if (folder / name).is_file()]:
    return known[0]
  found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
  if len(found) > 1:
    names = ', '.join(path.name for path in found[:3])
    raise ValueError(f'{folder}: holds {len(found)} files of weights, {names}; give one of them')
  if not found:
    raise ValueError(f'{folder}: holds neither {KNOWN[0]} nor another file of weights')
  return found[0]


def _is_torch(path: pathlib.Path) -> bool:
  """Returns whether a file is to be read as torch's, whatever its name says."""
  if not path.is_file():
    return False
  with path.open('rb') as file:
    start = file.read(9)
  # A zip archive, or a pickle; safetensors begin with a length and a JSON object.
  if start.startswith((b'PK', b'\x80\x02', b'\x80\x03', b'\x80\x04')):
    return True
  return path.suffix != '.safetensors' and start[8:] != b'{'


def without_prefix(where: Any, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
  """Returns tensors without the prefix that some names have.

  Raises:
    ValueError: one is there with it and without.
  """
  bare = {name.removeprefix(prefix): x for name, x in tensors.items()}
  if len(bare) < len(tensors):
    twice = next(name for name in tensors if f'{prefix}{name}' in tensors)
    raise ValueError(f'{where}: holds both {twice} and {prefix}{twice}')
  return bare
