"""Compiled functions over many images of a split, with a progress bar on a terminal."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from data import pipeline
from train import mesh as mesh_lib
from train.logging.progress import Progress
from train.task import Batch, Batches, Source, Variables
from train.tasks import reading

Columns = list[np.ndarray]  # arrays `[N, ...]`, a row for each image
Measure = Callable[[Variables, Batch], tuple[Array, ...]]  # returns columns `[B, ...]`


class EvalData(Protocol):
  """Labelled images of which splits are evaluated, such as `data.images.source.ImageData`."""

  train_split: str
  eval_split: str
  eval_batch_size: int

  @property
  def image_shape(self) -> tuple[int, ...]: ...

  @property
  def classes(self) -> tuple[str, ...]: ...

  def num_examples(self, split: str) -> int: ...

  def stored_as(self, split: str) -> str:
    """Returns the lossy file format of the images, such as 'JPEG', or ''."""
    ...

  def train_source(self, seed: int, sharding: Any) -> Source: ...

  def eval_batches(self, split: str, sharding: Any, rows: np.ndarray | None = None) -> Batches: ...


@dataclasses.dataclass(frozen=True)
class SplitRunner:
  """Applies compiled functions of a batch to the images of a data set.

  data: its splits are run over. mesh: the devices.
  """

  data: EvalData
  mesh: Mesh

  def compile(self, function: Measure) -> Measure:
    """Compiles a function of a batch, with the batch's mask as one more column."""

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(self.mesh))
    def measure(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      return *function(variables, batch), batch['mask']

    return measure

  def over_split(
    self, measure: Measure, variables: Variables, count: int = 0, split: str = ''
  ) -> Columns:
    """Returns the columns of a compiled function over `count` images of a split, 0 for all.

    They are drawn evenly from the split, which may be in the order of classes.
    """
    split = split or self.data.eval_split
    rows = pipeline.even_rows(count, self.data.num_examples(split))
    batches = reading.chosen(self.data, split, self.mesh, rows)
    return self.over(measure, variables, batches, len(batches))

  def over(
    self, measure: Measure, variables: Variables, batches: Iterable[Batch], total: int
  ) -> Columns:
    """Returns the columns of a compiled function over `total` batches, without padding rows."""
    rows = []
    for batch in with_progress(batches, self.data.eval_batch_size, total):
      *columns, mask = jax.device_get(measure(variables, batch))
      rows.append([column[mask > 0] for column in columns])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def with_progress(items: Iterable[Any], size: int, total: int) -> Iterator[Any]:
  """Yields the items, of `size` images each, with a progress bar on a terminal."""
  progress = Progress(total, size, unit='images', show=mesh_lib.is_main())
  with contextlib.closing(progress):
    for number, item in enumerate(items, 1):
      yield item
      progress.update(number)
