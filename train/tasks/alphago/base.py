"""What AlphaGo's tasks share: the parts of a task around one `GoNetwork`, and its batches."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from data.go.source import GoGames
from mcts.go import Go, recorded
from mcts.search.evaluators import Evaluate
from train import mesh as mesh_lib
from train.errors import UserError
from train.step import make_eval
from train.task import Batch, Batches, Evaluation, Metrics, Programs, Source, Task, Variables
from train.tasks import reading
from train.tasks.alphago.network import INPUTS, GoNetwork


class Data(Protocol):
  """What every task asks of its data: how many positions a batch has, and to end them."""

  @property
  def batch_size(self) -> int: ...

  def close(self) -> None: ...


class GoTask(Task):
  """A task of one `GoNetwork`, wherever its positions come from.

  Attributes:
    network: what is trained.
    data: says how many positions a batch has.
  """

  network: GoNetwork
  data: Data

  @property
  def game(self) -> Go:
    """Returns the rules of the states that the network is shown."""
    return self.network.game

  @property
  def batch_size(self) -> int:
    """Returns how many positions a batch has, over all devices."""
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    """Returns what rates count, and how many of it a batch has."""
    return 'positions', self.data.batch_size

  def summary(self) -> str:
    """Returns the table of the network's layers and parameters."""
    return self.network.summary()

  def close(self) -> None:
    """Ends what reads the data."""
    self.data.close()

  def init(self, key: Array) -> Variables:
    """Returns the network's fresh variables."""
    return self.network.init(key)

  def evaluator(self, variables: Variables, game: Go | None = None) -> Evaluate:
    """Returns the evaluator that this run's engine searches with.

    Args:
      variables: the network's.
      game: one with other rules on the same board, or None.
    """
    return self.network.with_game(game).evaluator(variables)


class RecordedGamesTask(GoTask):
  """A task that learns from recorded games, `GoGames`: all but its loss and its examination.

  A subclass says in `input_kinds` what its networks may see, of `network.INPUTS`.
  """

  data: GoGames
  input_kinds: tuple[str, ...] = ()
  from_records = True  # whose games are under many rules, of which the network is not told

  def __init__(self, model: Mapping[str, Any], data: GoGames):
    self.data, self.network = data, GoNetwork(model, data.size, self.input_kinds)

  def fingerprints(self) -> Mapping[str, str]:
    """Returns split -> a hash of its data."""
    return self.data.fingerprints()

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns batches without end: {'inputs', 'move', 'result', 'index', 'mask'}."""
    source = reading.training(self.data, split, mesh, seed)
    return InputSource(source, self._to_inputs(mesh))

  def batches(self, mesh: Mesh) -> Batches:
    """Returns batches of the test positions, each once and in order."""
    batches = reading.evaluation(self.data, 'test', mesh)
    return InputBatches(batches, self._to_inputs(mesh))

  def _to_inputs(self, mesh: Mesh) -> Callable[[Batch], Batch]:
    game = Go(self.data.size, max_moves=self.data.entries)
    return to_inputs(game, self.network.input_kind, mesh)

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns one evaluation, 'test': the loss and its metrics on the test positions."""
    task: Any = self  # with the subclass's loss
    batches, measure = self.batches(mesh), make_eval(task)
    return {'test': lambda variables: measure(variables, batches)}

  def metadata(self) -> dict[str, Any]:
    """Returns for eval.json how many games there are and how many test positions are seen."""
    games = {name: len(self.data.split(name).games.points) for name in ('train', 'test')}
    total = self.data.num_positions('test')
    return {'games': games, 'positions': min(self.data.eval_positions or total, total)}


# -------- batches --------


def to_inputs(game: Go, input_kind: str, mesh: Mesh) -> Any:
  """Returns a jitted function: of batches of records, batches with 'inputs' in their place.

  Each device computes its own part of the batch: ladders are read in loops of as many rounds as
  they need, and under `jit` alone all devices would talk to each other in each round.

  Args:
    game: the rules of the records, whose `max_moves` is their length.
    input_kind: of `INPUTS`.
    mesh: over whose batch axes batches are sharded.
  """

  def convert(batch: Batch) -> Batch:
    kept = {name: x for name, x in batch.items() if name not in recorded.FIELDS}
    return {'inputs': INPUTS[input_kind](game, recorded.states(game, batch)), **kept}

  return jax.jit(mesh_lib.per_device(convert, mesh))


@dataclasses.dataclass(frozen=True)
class InputSource:
  """A source of records whose batches `convert` makes inputs of."""

  source: Any
  convert: Any  # jitted

  def init(self, key: Array) -> Any:
    """Returns the source's first carry."""
    return self.source.init(key)

  def next(self, carry: Any, step: int, variables: Variables) -> tuple[Any, Batch]:
    """Returns the carry after a step and the step's batch, converted."""
    carry, batch = self.source.next(carry, step, variables)
    return carry, self.convert(batch)

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Returns the program that makes the inputs, and the abstract batch."""
    programs, records = self.source.trace(variables)
    traced = self.convert.trace(records)
    batch = mesh_lib.abstract(traced.out_info, jax.tree.leaves(records)[0].sharding)
    return {**programs, 'inputs': traced}, batch


@dataclasses.dataclass(frozen=True)
class InputBatches:
  """Finitely many batches of records, of which `convert` makes inputs as they are iterated."""

  batches: Any
  convert: Callable[[Batch], Batch]

  def __len__(self) -> int:
    return len(self.batches)

  def __iter__(self) -> Iterator[Batch]:
    return map(self.convert, self.batches)


def metric_sums(values: Mapping[str, Array], mask: Array) -> Metrics:
  """Returns the weighted sum of each metric, values `[B]`; mask: weights `[B]`, 0 for padding."""
  weight = mask.sum()
  return {name: (jnp.sum(x * mask, where=mask > 0), weight) for name, x in values.items()}


def mean_loss(values: Mapping[str, Array], mask: Array) -> tuple[Array, tuple[Variables, Metrics]]:
  """Returns what a task's `loss` returns, of values `[B]` with one called 'loss'."""
  metrics = metric_sums(values, mask)
  total, weight = metrics['loss']
  return total / jnp.where(weight > 0, weight, 1), ({}, metrics)


def check_at_least(**limits: tuple[int, int]) -> None:
  """Raises UserError if a key of the task, name=(value, least), is below the least value."""
  for name, (value, least) in limits.items():
    if value < least:
      raise UserError(f'task.{name}={value}: must be at least {least}')
