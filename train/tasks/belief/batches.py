"""Mini-batches in which each class is alike, many of them a step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

from data import pipeline
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.task import Batch, Programs, Variables
from train.tasks import reading
from train.tasks.belief.schedule import Schedule, Stage

CHOICE = 0  # the seed by which images are chosen: the same ones for every seed of a run


class MiniBatchOrder(pipeline.EpochOrder):
  """The endless sequence of a step's records: mini-batches of equally many of each group.

  Each group is shuffled anew when it has been gone through. Record i of mini-batch j of M comes at
  position i M + j, so that devices which split the batch share every mini-batch.
  """

  def __init__(self, seed: int, groups: Sequence[np.ndarray], size: int):
    """Takes groups of record numbers, and the size of a mini-batch."""
    super().__init__(seed, sum(map(len, groups)))
    self._groups, self._mini_batch = groups, size
    # A seed for each: else groups of one size would be shuffled alike.
    self._orders = [
      pipeline.EpochOrder(seed * len(groups) + i, len(group)) for i, group in enumerate(groups)
    ]

  def rows(self, step: int, batch_size: int) -> np.ndarray:
    """Returns int32 `[batch_size]`, the records of a step."""
    each = batch_size // len(self._groups)
    drawn = [
      group[order.rows(step, each)] for group, order in zip(self._groups, self._orders, strict=True)
    ]
    return np.stack(drawn, 1).reshape(-1, self._mini_batch).T.reshape(-1).astype(np.int32)


class ImageChoice:
  """Which training images are learned from, and which are held out for validation."""

  def __init__(self, data: ImageData, mesh: Mesh, per_class: int, validation: int):
    """Chooses at random `per_class` images of each class (0: all), and others for validation.

    Raises:
      UserError: there are not so many.
    """
    labels = read_labels(data, mesh)
    order = np.random.default_rng(CHOICE).permutation(len(labels))
    self.everything = np.arange(len(labels))
    by_class = [order[labels[order] == k] for k in range(len(data.classes))]
    least = int(np.argmin([len(rows) for rows in by_class]))
    if per_class > len(by_class[least]):
      raise UserError(
        f'task.per_class={per_class}: class {data.classes[least]} has'
        f' {len(by_class[least]):,} training images'
      )
    chosen = [rows[:per_class] for rows in by_class] if per_class else []
    rest = order[~np.isin(order, np.concatenate(chosen))] if chosen else order
    if validation >= len(rest) + bool(chosen):
      raise UserError(
        f'task.validation={validation}: task.per_class={per_class} leaves {len(rest):,} of'
        f' {len(labels):,} training images'
      )
    self.validation = np.sort(rest[:validation])
    self.groups = chosen or [rest[validation:]]

  @property
  def training(self) -> np.ndarray:
    """The images that are learned from before the last stage, ascending."""
    return np.sort(np.concatenate(self.groups))


def read_labels(data: ImageData, mesh: Mesh) -> np.ndarray:
  """Returns the labels int `[N]` of the training images."""
  gather = jax.jit(lambda x: x, out_shardings=mesh_lib.replicated(mesh))
  batches = reading.evaluation(data, data.train_split, mesh)
  parts = [jax.device_get(gather((batch['label'], batch['mask']))) for batch in batches]
  return np.concatenate([label[mask > 0] for label, mask in parts])


class StagedSource:
  """Training batches of each stage, `step` int32 `[B]` beside what images' batches hold."""

  def __init__(
    self,
    data: Any,
    mesh: Mesh,
    seed: int,
    schedule: Schedule,
    choose: Callable[[], ImageChoice],
    check: Callable[[Stage, Variables], None],
    batch_size: int,
  ):
    """Takes what says whether a stage may begin: `check` raises UserError if it may not."""
    self.data, self.schedule, self.check, self.size = data, schedule, check, batch_size
    self.seed, self.choose, self.sharding = seed, choose, mesh_lib.batch_sharding(mesh)
    with user_errors():
      pipeline.check_divisible('batch_size', data.batch_size, self.sharding)
    self._stage: Stage | None = None
    self._sources: dict[bool, Any] = {}  # by whether they are of all images
    self._mark = jax.jit(
      lambda batch, step: {**batch, 'step': jnp.full_like(batch['index'], step)},
      out_shardings=self.sharding,
    )

  def init(self, key: Array) -> tuple:
    """Returns the carry, which is empty: a batch depends on no other."""
    del key
    return ()

  def next(self, carry: tuple, step: int, variables: Variables) -> tuple[tuple, Batch]:
    """Returns the batch of `step`."""
    stage = self.schedule.at(step)
    if stage != self._stage:
      self.check(stage, variables)
      self._stage = stage
    if stage.full not in self._sources:
      self._sources[stage.full] = self._open(stage)
    # The last stage counts its own steps: it begins a new order.
    _, batch = self._sources[stage.full].next((), step - stage.start * stage.full, variables)
    return carry, self._mark(batch, step)

  def _open(self, stage: Stage) -> reading.UsersSource:
    choice = self.choose()
    groups = [choice.everything] if stage.full else choice.groups
    order = MiniBatchOrder(self.seed, groups, self.data.batch_size)
    with user_errors():
      source = self.data.train_source(self.seed, self.sharding, order, self.size)
    return reading.UsersSource(source)

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Returns no program, and the abstract batch."""
    _, batch = self.data.train_source(self.seed, self.sharding).trace(variables)
    wide = functools.partial(_resized, self.size, self.sharding)
    return {}, {**jax.tree.map(wide, batch), 'step': wide(batch['index'])}


def _resized(size: int, sharding: NamedSharding, leaf: Any) -> Any:
  return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype, sharding=sharding)
