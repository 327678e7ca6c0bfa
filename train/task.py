"""The contract between the training loop and what it trains.

The loop knows nothing else about a pillar: a class with these methods, in `train/tasks/`, is all
that a new one needs.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from train.errors import UserError

Variables = Mapping[str, Any]
"""Flax's collections: `params`, and what else the model keeps, such as `batch_stats`."""

Batch = Any
"""A pytree of global arrays whose axis 0 is the batch, sharded over the mesh's batch axes."""

Carry = Any
"""What a source must remember between steps: () for a dataset, actors and replay for self-play."""

Programs = Mapping[str, Any]
"""name -> traced program (`jax.stages.Traced`), to be compiled and read but not run."""

Metrics = dict[str, tuple[Array, Array]]
"""name -> (sum, weight), float32 scalars: ragged batches and microbatches average right."""


# Beginnings of metrics' names.
LESS_IS_BETTER = ('loss', 'error', 'perplexity')
GREATER_IS_BETTER = ('accuracy', 'bleu', 'share', 'elo', 'winner', 'optimal')


class Source(Protocol):
  """Where batches come from; pure but for reading files, so that a resumed run sees the same."""

  def init(self, key: Array) -> Carry:
    """Returns the carry before the first batch."""

  def next(self, carry: Carry, step: int, variables: Variables) -> tuple[Carry, Batch]:
    """Returns the batch of `step`; must not wait for the device."""

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Returns what is compiled to make a batch, of abstract variables, and the abstract batch.

    Nothing is read and nothing runs, so that the mesh may be of devices that are not there.
    """


class Batches(Protocol):
  """A finite set of batches in a fixed order, the last one padded; can be iterated many times."""

  def __iter__(self) -> Iterator[Batch]: ...

  def __len__(self) -> int: ...


class Evaluation(Protocol):
  """Measures variables; runs on every process and returns the same numbers on each."""

  def __call__(self, variables: Variables, /) -> Mapping[str, float]: ...


def evaluate(evals: Mapping[str, Evaluation], variables: Variables) -> dict[str, float]:
  """Returns what each of a task's evaluations measures, as 'name/metric'."""
  return {
    f'{name}/{metric}': value
    for name, evaluation in evals.items()
    for metric, value in evaluation(variables).items()
  }


class Task(Protocol):
  """What is trained: a model, its loss, its data and its evaluations.

  A task inherits from this class and gets what it need not have from here: `close`, `draw`,
  `flops`, `join`, `meaning`, `metrics`, `fingerprints` and `trace_sample`.

  Attributes:
    data: the config's section `data`, built (`data.SOURCES`); None if it makes its own.
    text_length: tokens of an example, which the devices of `mesh.context` share; 0: it has none.
    updates_per_step: updates that a step makes one after another in one program, each of its own
      part of the batch: examples k, k + updates_per_step, ... are of update k. For networks so
      small that to start a program for each update would cost as much as the update.
    updates_itself: whether a step is `update`, not the optimiser's on the gradient of `loss`.
  """

  data: Any = None
  text_length: int = 0
  updates_per_step: int = 1
  updates_itself: bool = False

  def init(self, key: Array) -> Variables:
    """Returns fresh variables, perhaps boxed with logical axis names; runs under `eval_shape`."""

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the batch's mean loss (a scalar), the new variables other than `params`, and metrics.

    The metric 'loss' is the sum and the weight of which that mean is made. The step sums both over
    microbatches and devices before it divides, so that an update does not depend on how the batch
    is cut. The weight must not depend on the parameters.

    `key` is one and the same on every device and in every microbatch of a step. Randomness that
    should differ between examples folds in something of the example (its record number), which
    makes it independent of how many devices share the batch.
    """

  def update(
    self, params: Any, batch: Batch, key: Array, rate: Array, axis: str | None
  ) -> tuple[Any, Metrics]:
    """Takes a training step, where `updates_itself`; returns the new parameters, and metrics.

    For what one gradient and one dense update a step do not fit, such as tables of which a step
    changes a few rows many times. The optimiser gives the learning rate alone. `accumulate` has no
    effect, since the update of a batch is its own. It must not depend on how devices share the
    batch.

    Args:
      params: of the variables.
      batch: the step's.
      key: as for `loss`.
      rate: of learning, float32 `[]`.
      axis: the name under which `pmap` has split the batch; None in a program of all devices.
    """
    del params, batch, key, rate, axis
    raise NotImplementedError

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the stream of training batches; `split` is 'train'."""

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns name -> evaluation; the name becomes the prefix of its metrics (`test/error`)."""

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[Mapping[str, float], Mapping[str, Any], Mapping[str, np.ndarray]]:
    """Evaluates for the verb eval: returns metrics, metadata for eval.json, arrays for the report.

    Several members are several runs' variables, whose predictions are averaged.
    """

  def join(self, others: Sequence[Any], *, same_model: bool) -> None:
    """Takes the tasks of the other runs of an ensemble, in the order of `examine`'s members.

    Raises:
      UserError: their models differ, and this task averages the predictions of one alone.
    """
    if not same_model:
      raise UserError(
        f'{len(others) + 1} workdirs: their models differ, and this task averages the predictions'
        ' of one model alone'
      )

  def summary(self) -> str:
    """Returns the table of the model's layers and parameters."""

  def close(self) -> None:
    """Ends whatever runs in the background for the sources."""
    return None

  def draw(self, variables: Variables, key: Array) -> Mapping[str, bytes]:
    """Returns files to look at, name -> contents, such as 'sample.txt' or 'grid.png'.

    Called at each evaluation on every process, with a key that depends on the run's seed and the
    step alone; the files of process 0 are kept.
    """
    del variables, key
    return {}

  def meaning(self) -> Mapping[str, Any]:
    """Returns what the weights depend on beside the config, as JSON: class names in their order.

    It is kept with the run, which is resumed and evaluated only with the same.
    """
    return {}

  def trace_sample(self, variables: Variables, mesh: Mesh) -> Programs:
    """Traces what the verb sample runs, from abstract variables, for a mesh that need not be there.

    Raises:
      UserError: the task has nothing to sample.
    """
    del variables, mesh
    raise UserError('compile --verb=sample: a run of this task has nothing to sample')

  def fingerprints(self) -> Mapping[str, str]:
    """Returns split -> a short hash of the data that were read of it (`data.fingerprint`).

    Kept with the run: it is not resumed with other data unless told to, and eval says so.
    """
    return {}

  @property
  def metrics(self) -> Sequence[str]:
    """Returns what `evals` report, such as 'test/error', for `train.best`; () if not known yet."""
    return ()

  @property
  def flops(self) -> float | None:
    """Returns the model's FLOPs in one training step (`train.logging.peaks`); None if unknown."""
    return None

  @property
  def batch_size(self) -> int:
    """Examples in one training batch, over all devices."""

  @property
  def throughput(self) -> tuple[str, int]:
    """Returns what the reported rates count, and how many a batch has: `('images', 128)`."""


def check_best(
  task: Task, evals: Mapping[str, Evaluation], best: str, mode: str, *, default: str
) -> None:
  """Raises UserError if no evaluation reports the metric that decides on the best checkpoint.

  Of the default, which not every task reports, it prints that; and of a metric's wrong direction.
  """
  known = list(task.metrics)
  named = best in known if known else best.split('/')[0] in evals
  wrong = {'min': GREATER_IS_BETTER, 'max': LESS_IS_BETTER}[mode]
  lines = []
  if not named and best:
    choices = ', '.join(known or [f'{name}/...' for name in evals]) or 'nothing'
    lines.append(f'train.best={best!r}: evaluations report {choices}')
    if best != default:
      raise UserError(f'{lines[0]}; choose from these')
  if best.split('/')[-1].startswith(wrong):
    lines.append(f'train.best={best!r} with train.best_mode={mode!r}: keeps the worst checkpoint')
  for line in lines if jax.process_index() == 0 else ():
    print(line, file=sys.stderr)
