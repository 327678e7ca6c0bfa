"""A user's files while they are read: which one is damaged is the user's error."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.task import Batch, Batches, Programs, Source, Variables


class FileData(Protocol):
  """Data that are read from files, such as `data.images.source.ImageData`."""

  def train_source(self, seed: int, sharding: Any) -> Source: ...

  def eval_batches(self, split: str, sharding: Any) -> Batches: ...


class ChoosableData(Protocol):
  """Data of which chosen records can be read, such as `data.images.source.ImageData`."""

  def eval_batches(self, split: str, sharding: Any, rows: np.ndarray | None = None) -> Batches: ...


def training(data: FileData, split: str, mesh: Mesh, seed: int) -> Source:
  """Returns the stream of training batches of data in files."""
  if split != 'train':
    raise ValueError(f'split {split!r}: only train is a stream; evals reads the others')
  with user_errors():
    return UsersSource(data.train_source(seed, mesh_lib.batch_sharding(mesh)))


def evaluation(data: FileData, split: str, mesh: Mesh) -> Batches:
  """Returns the batches of every record of `split`, once and in order."""
  with user_errors():
    return UsersBatches(data.eval_batches(split, mesh_lib.batch_sharding(mesh)))


def chosen(data: ChoosableData, split: str, mesh: Mesh, rows: np.ndarray) -> Batches:
  """Returns the batches of the records `rows` of `split`, in that order."""
  with user_errors():
    return UsersBatches(data.eval_batches(split, mesh_lib.batch_sharding(mesh), rows))


def images(data: ChoosableData, split: str, mesh: Mesh, rows: np.ndarray) -> np.ndarray:
  """Returns the images `[len(rows), H, W, C]` of the records `rows` of `split`."""
  gather = jax.jit(lambda x: x, out_shardings=mesh_lib.replicated(mesh))
  batches = (gather((x['image'], x['mask'])) for x in chosen(data, split, mesh, rows))
  return np.concatenate([image[mask > 0] for image, mask in map(jax.device_get, batches)])


@dataclasses.dataclass(frozen=True)
class UsersSource:
  """Batches of files that may be damaged."""

  source: Source

  def init(self, key: Array) -> Any:
    return self.source.init(key)

  def next(self, carry: Any, step: int, variables: Variables) -> tuple[Any, Batch]:
    with user_errors():
      return self.source.next(carry, step, variables)

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    return self.source.trace(variables)


@dataclasses.dataclass(frozen=True)
class Lacking:
  """A source whose run to begin from is not there: it can be compiled, and says so if it begins."""

  source: Source
  error: UserError

  def init(self, key: Array) -> Any:
    raise self.error

  def next(self, carry: Any, step: int, variables: Variables) -> tuple[Any, Batch]:
    raise self.error

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    return self.source.trace(variables)


@dataclasses.dataclass(frozen=True)
class UsersBatches:
  """Likewise, of a finite set of batches."""

  batches: Batches

  def __len__(self) -> int:
    return len(self.batches)

  def __iter__(self) -> Iterator[Batch]:
    with user_errors():
      yield from self.batches
