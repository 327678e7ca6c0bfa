"""Reads the tensors of a file that `torch.save` wrote, without torch and without executing it.

Since torch 1.6 such a file is a zip archive of `data.pkl` and a member for each storage; before, it
was a row of pickles with the storages behind them.
"""

import dataclasses
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from models.weights import torch_pickle
from models.weights.torch_pickle import Refused, Storage, TensorView

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
COUNT_BYTES = 8  # before each storage of a legacy file, its number of values
# Where a checkpoint keeps a model's weights, averages first.
WEIGHTS = (
  *('ema', 'model_ema', 'state_dict_ema', 'params_ema'),
  *('state_dict', 'model_state_dict', 'model', 'params'),
)
# What torch's parallel and compiled models put before every name.
WRAPPERS = ('module.', '_orig_mod.')

Bytes = Callable[[str], bytes]  # a storage's key to its bytes


@dataclasses.dataclass(frozen=True)
class TorchTensor:
  """A tensor of a file, which is read when an array is made of it."""

  label: str
  view: TensorView
  read: Bytes

  @property
  def dtype(self) -> str:
    """The name of the numbers' type in safetensors, such as 'F32'."""
    return self.view.storage.dtype

  @property
  def shape(self) -> tuple[int, ...]:
    return self.view.shape

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    view, storage = self.view, self.view.storage
    try:
      raw = self.read(storage.key)
    except Exception as error:  # a storage that is not there, or whose checksum is another
      raise ValueError(f'{self.label} cannot be read ({error})') from None
    if len(raw) != storage.size * storage.kind.itemsize:
      raise ValueError(f'{self.label} cannot be read (its storage has {len(raw)} bytes)')
    numbers = np.frombuffer(raw, storage.kind)[view.offset :]
    strides = [step * numbers.itemsize for step in view.strides]
    found = np.lib.stride_tricks.as_strided(numbers, view.shape, strides, writeable=False)
    return np.array(found, dtype)


def read_tensors(path: pathlib.Path) -> tuple[dict[str, TorchTensor], str]:
  """Returns the tensors by name, none of them read yet; and the part of the file that holds them.

  The part is a key of a checkpoint, such as 'ema', or ''.

  Raises:
    ValueError: the file is none of torch's, is cut short, or asks for more than tensors.
  """
  try:
    loaded, read = (_load_zip if zipfile.is_zipfile(path) else _load_legacy)(path)
    views, part = _state_dict(loaded)
  except Refused as error:
    raise ValueError(f'{path}: {error}') from None
  except Exception as error:  # damaged bytes raise nearly anything
    reason = ' '.join(str(error).split())[:100] or type(error).__name__
    raise ValueError(f'{path}: cut short, or not a file of torch.save ({reason})') from None
  return {name: TorchTensor(f'{path}: {name}', x, read) for name, x in views.items()}, part


def _load_zip(path: pathlib.Path) -> tuple[Any, Bytes]:
  """Returns what the archive's `data.pkl` makes, and the reader of its storages."""
  archive = zipfile.ZipFile(path)
  members = {each.filename: each for each in archive.infolist()}
  main = next((name for name in members if name.endswith('/data.pkl')), None)
  if main is None:
    raise Refused('is a zip archive without data.pkl, so no file of torch.save')
  if any(each.compress_type != zipfile.ZIP_STORED for each in members.values()):
    raise Refused('is a compressed archive, which torch.save does not write')
  root = main.removesuffix('data.pkl')
  if f'{root}byteorder' in members and archive.read(f'{root}byteorder') != b'little':
    raise Refused('holds numbers in another byte order than this machine')
  with archive.open(main) as file:
    return torch_pickle.load(file), lambda key: archive.read(f'{root}data/{key}')


def _load_legacy(path: pathlib.Path) -> tuple[Any, Bytes]:
  """Returns what the fourth pickle makes, and the reader of the storages, which follow the fifth.

  The first three say that torch wrote it, how and where; the fifth lists the storages' keys.
  """
  with path.open('rb') as file:
    if file.peek(1)[:1] != b'\x80':
      raise Refused('is neither safetensors nor a whole file of torch.save')
    if torch_pickle.load(file) != LEGACY_MAGIC:
      raise Refused('is a pickle, but no file of torch.save')
    storages: dict[str, Storage] = {}
    _, _, loaded, keys = (torch_pickle.load(file, storages) for _ in range(4))
    place = file.tell()
  places = {}
  for key in keys:
    size = storages[key].size * storages[key].kind.itemsize
    places[key] = place + COUNT_BYTES, size
    place += COUNT_BYTES + size

  def read(key: str) -> bytes:
    place, size = places[key]
    with path.open('rb') as file:
      file.seek(place)
      return file.read(size)

  return loaded, read


def _state_dict(loaded: Any) -> tuple[dict[str, TensorView], str]:
  """Returns the tensors of a state dict, or of the part of a checkpoint that holds one."""
  if type(loaded) is not dict:
    raise Refused('holds no dict of tensors')
  part = next((key for key in WEIGHTS if type(loaded.get(key)) is dict), '')
  found = loaded[part] if part else loaded
  views = {name: x for name, x in found.items() if type(name) is str and isinstance(x, TensorView)}
  if not views:
    raise Refused(f'holds no tensors by name, only {", ".join(map(str, found))[:100] or "nothing"}')
  for wrapper in WRAPPERS:
    if all(name.startswith(wrapper) for name in views):
      views = {name.removeprefix(wrapper): x for name, x in views.items()}
  return views, part
