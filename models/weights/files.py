"""Public weights on disk, a folder or one file, of which each part is read when it is asked for."""

import functools
import pathlib
from typing import Any

from models.weights import safetensors_folder
from models.weights.safetensors_folder import Tensor


class Files:
  """A folder of weights, or one file.

  path: as the user gave it.
  folder: where `config.json` would be.
  """

  def __init__(self, path: str | pathlib.Path):
    self.path = pathlib.Path(path)
    if not self.path.exists():
      raise ValueError(f'{self.path}: no such folder or file')
    self.folder = self.path if self.path.is_dir() else self.path.parent

  @functools.cached_property
  def config(self) -> dict[str, Any]:
    """The object in `config.json`; {} where there is none, or only a file was given."""
    path = self.folder / 'config.json'
    if self.path != self.folder or not path.is_file():
      return {}
    return safetensors_folder.read_json(path)

  @functools.cached_property
  def tensors(self) -> dict[str, Tensor]:
    """The tensors by name, none of them read yet."""
    if self.path == self.folder:
      return safetensors_folder.read_folder(self.folder)
    return safetensors_folder.read_tensors(self.path)
