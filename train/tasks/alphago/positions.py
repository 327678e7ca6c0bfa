"""Positions of Go as AlphaGo's networks see them, and what tasks that learn from records share."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

import models
import models.summary
from data.go.source import GoGames
from mcts.alphago import features, rollout_policy
from mcts.alphago.episodes import Player
from mcts.game import initial_states
from mcts.go import Go, State, recorded
from mcts.search.evaluators import Evaluate
from train import mesh as mesh_lib
from train.config import UserError, user_errors
from train.step import make_eval
from train.task import Batch, Batches, Evaluation, Metrics, Source, Variables
from train.tasks import reading

PASS, NONSENSE = -1e3, -1e6  # logits: of a pass, and of what is worse still

# What a network may see of states: its name -> (game, states) -> `[B, ...]`.
VIEWS: Mapping[str, Callable[[Go, State], Array]] = {
  'planes': features.planes,
  'planes and colour': lambda game, states: features.planes(game, states, colour=True),
  'patterns': lambda game, states: jax.vmap(lambda state: rollout_policy.features(game, state))(states),
}


class Board:
  """A network of the board, and what it sees: what its tasks know before they have data.

  views: of `VIEWS`, what this task's networks may see.
  """

  def __init__(self, model: Mapping[str, Any], size: int, views: tuple[str, ...]):
    with user_errors():
      self.model = models.build(**model)
    self.view, self.size = getattr(self.model, 'sees', 'images'), size
    if self.view not in views:
      raise UserError(f'model.name={model["name"]!r}: sees {self.view}, not {" or ".join(views)}')
    self.game = Go(size)

  def __call__(self, variables: Variables, seen: Array) -> Array:
    """The network's outputs for views `[B, ...]`; planes become numbers."""
    seen = seen.astype(jnp.float32) if seen.dtype == bool else seen
    outputs: Any = self.model.apply(variables, seen)
    return outputs

  def under(self, game: Go | None) -> 'Board':
    """The same network for a game by other rules; None: as it is."""
    if game is None:
      return self
    other = copy.copy(self)
    other.game = game
    return other

  def evaluator(self, variables: Variables) -> Evaluate:
    """As in `mcts.search.evaluators`; every position is even, for a policy knows no values."""

    def evaluate(states: State, keys: Array) -> tuple[Array, Array]:
      values = jnp.zeros_like(jax.random.key_data(keys)[:, 0], jnp.float32)
      return self.policy(variables, states), values

    return evaluate

  def see(self, states: State) -> Array:
    return VIEWS[self.view](self.game, states)

  def sensible(self, states: State) -> Array:
    """bool `[B, N^2]`: legal, and no eye of one's own."""
    return jax.vmap(lambda x: self.game.legal(x)[:-1] & ~self.game.own_eyes(x))(states)

  def policy(self, variables: Variables, states: State) -> Array:
    """Logits `[B, N^2 + 1]`: a pass behind all that is sensible, before the rest."""
    logits = jax.nn.log_softmax(self(variables, self.see(states)))
    logits = jnp.where(self.sensible(states), logits, NONSENSE)
    return jnp.pad(logits, ((0, 0), (0, 1)), constant_values=PASS)

  def drawn(self, variables: Variables) -> Player:
    """Moves by the policy's own chances."""

    def choose(states: State, keys: Array) -> Array:
      logits = self.policy(variables, states)
      return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

    return choose

  def init(self, key: Array) -> Variables:
    seen = self.example()
    return self.model.init(key, jnp.zeros(seen.shape, jnp.result_type(seen.dtype, jnp.int32)))

  def summary(self) -> str:
    if self.view != 'patterns':
      return models.summary.table(self.model, self.example().shape[1:])
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def example(self, batch: int = 1) -> jax.ShapeDtypeStruct:
    """What the network sees of so many states, `[B, ...]`."""
    return jax.eval_shape(lambda: self.see(initial_states(self.game, batch)))


class OnBoard:
  """What tasks of a `Board` have in common, wherever their positions come from."""

  board: Board
  data: Any

  @property
  def game(self) -> Go:
    return self.board.game

  @property
  def batch_size(self) -> int:
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    return 'positions', self.data.batch_size

  def summary(self) -> str:
    return self.board.summary()

  def close(self) -> None:
    self.data.close()

  def init(self, key: Array) -> Variables:
    return self.board.init(key)

  def evaluator(self, variables: Variables, game: Go | None = None) -> Evaluate:
    """game: one with other rules, on the same board."""
    return self.board.under(game).evaluator(variables)


class Learner(OnBoard):
  """What tasks that learn from `GoGames` have in common: all of a task but loss and examination."""

  views: tuple[str, ...] = ()

  def __init__(self, model: Mapping[str, Any], data: GoGames):
    self.data, self.board = data, Board(model, data.size, self.views)

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Batches without end: {'seen', 'move', 'result', 'index', 'mask'}."""
    source = reading.training(self.data, split, mesh, seed)
    return SeenSource(source, self._see(mesh))

  def batches(self, mesh: Mesh) -> Batches:
    """The held-out positions, each once and in order, likewise."""
    batches = reading.evaluation(self.data, 'test', mesh)
    return SeenBatches(batches, self._see(mesh))

  def _see(self, mesh: Mesh) -> Callable[[Batch], Batch]:
    return seen(Go(self.data.size, max_moves=self.data.entries), self.board.view, mesh)

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    task: Any = self  # with what its heirs add
    batches, measure = self.batches(mesh), make_eval(task)
    return {'test': lambda variables: measure(variables, batches)}

  def facts(self) -> dict[str, Any]:
    """For eval.json: how many games there are, and how many held-out positions are seen."""
    games = {name: len(self.data.split(name).games.points) for name in ('train', 'test')}
    total = self.data.num_positions('test')
    return {'games': games, 'positions': min(self.data.eval_positions or total, total)}


def seen(game: Go, view: str, mesh: Mesh) -> Callable[[Batch], Batch]:
  """Batches of records, as of `data.go.source`, to what tasks learn from: with 'seen' instead.

  Each device makes its own part: ladders are read in loops of as many rounds as they need, which
  under `jit` alone would have all devices talk in each round.
  """

  def make(batch: Batch) -> Batch:
    kept = {name: x for name, x in batch.items() if name not in recorded.FIELDS}
    return {'seen': VIEWS[view](game, recorded.states(game, batch)), **kept}

  return jax.jit(mesh_lib.per_device(make, mesh))


@dataclasses.dataclass(frozen=True)
class SeenSource:
  source: Any
  see: Callable[[Batch], Batch]

  def init(self, key: Array) -> Any:
    return self.source.init(key)

  def next(self, carry: Any, step: int, variables: Variables) -> tuple[Any, Batch]:
    carry, batch = self.source.next(carry, step, variables)
    return carry, self.see(batch)


@dataclasses.dataclass(frozen=True)
class SeenBatches:
  batches: Any
  see: Callable[[Batch], Batch]

  def __len__(self) -> int:
    return len(self.batches)

  def __iter__(self) -> Iterator[Batch]:
    return map(self.see, self.batches)


def metrics_of(values: Mapping[str, Array], mask: Array) -> Metrics:
  """Sums over the positions that are none of padding, of values `[B]`, and their number."""
  weight = mask.sum()
  return {name: (jnp.sum(x, where=mask > 0), weight) for name, x in values.items()}


def network_of(workdir: str, key: str, size: int, view: str) -> tuple[Board, Variables]:
  """That of another run, with its variables as NumPy; `key` is the config's that names the workdir.

  UserError if it sees another view, or is of another board.
  """
  from train import verbs  # which knows all tasks

  run = verbs.load_run(workdir)
  run.task.close()
  board = getattr(run.task, 'board', None)
  if not isinstance(board, Board) or (board.view, board.size) != (view, size):
    raise UserError(
      f'{key}={workdir!r}: a run of task {run.config["task"]["name"]} and model'
      f' {run.config["model"]["name"]}; must be of one that sees {view} of a board of size {size}'
    )
  return board, jax.device_get(dict(run.variables))
