"""A network of a Go board: what it sees of a position, and its policy as a player and evaluator."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import models
import models.summary
from mcts.alphago import features, rollout_policy
from mcts.alphago.episodes import Player
from mcts.game import initial_states
from mcts.go import Go, State
from mcts.search.evaluators import Evaluate
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.run import load_weights, read_config
from train.task import Variables

# Logits of a pass, and of moves that are illegal or fill an own eye: a player passes only if all
# other moves are of these.
PASS_LOGIT, EXCLUDED_LOGIT = -1e3, -1e6

# What a network may see, by the name that its module has in `sees`: (game, states) -> `[B, ...]`.
INPUTS: Mapping[str, Callable[[Go, State], Array]] = {
  'planes': features.planes,
  'planes and colour': lambda game, states: features.planes(game, states, colour=True),
  'patterns': lambda game, states: jax.vmap(lambda state: rollout_policy.features(game, state))(
    states
  ),
}
POLICY_INPUTS = ('planes', 'patterns')
VALUE_INPUTS = ('planes and colour',)

# The tasks that train policies, and the section of their config that has the board's size.
POLICY_TASKS = {'go_policy': 'data', 'go_reinforce': 'task'}


class GoNetwork:
  """A network, the board that it is for, and the rules of the games whose states it is shown.

  Attributes:
    model: the linen module.
    input_kind: which of `INPUTS` it sees.
    size: N.
    game: the rules.
  """

  def __init__(self, model: Mapping[str, Any], size: int, input_kinds: tuple[str, ...]):
    """Builds the module.

    Args:
      model: a config's section `model`.
      size: N.
      input_kinds: of `INPUTS`, what this task's networks may see.

    Raises:
      UserError: if the model cannot be built or sees something else.
    """
    with user_errors():
      self.model = models.build(**model)
    self.input_kind, self.size = getattr(self.model, 'sees', 'images'), size
    if self.input_kind not in input_kinds:
      raise UserError(
        f'model.name={model["name"]!r}: sees {self.input_kind}, not {" or ".join(input_kinds)}'
      )
    self.game = Go(size)

  def __call__(self, variables: Variables, inputs: Array) -> Array:
    """Returns the outputs for inputs `[B, ...]`: logits `[B, N^2]`, or values `[B]`."""
    inputs = inputs.astype(jnp.float32) if inputs.dtype == bool else inputs
    outputs: Any = self.model.apply(variables, inputs)
    return outputs

  def with_game(self, game: Go | None) -> 'GoNetwork':
    """Returns the same network for a game with other rules on the same board; None: as it is."""
    if game is None:
      return self
    other = copy.copy(self)
    other.game = game
    return other

  def init(self, key: Array) -> Variables:
    """Returns fresh variables."""
    inputs = self.example_inputs()
    return self.model.init(key, jnp.zeros(inputs.shape, jnp.result_type(inputs.dtype, jnp.int32)))

  def summary(self) -> str:
    """Returns the table of layers and parameters."""
    if self.input_kind != 'patterns':
      return models.summary.table(self.model, self.example_inputs().shape[1:])
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  # -------- of states --------

  def inputs(self, states: State) -> Array:
    """Returns what the network sees of states, `[B, ...]`."""
    return INPUTS[self.input_kind](self.game, states)

  def example_inputs(self, batch: int = 1) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of the inputs of so many states."""
    return jax.eval_shape(lambda: self.inputs(initial_states(self.game, batch)))

  def sensible(self, states: State) -> Array:
    """Returns bool `[B, N^2]`: legal moves that fill no eye of one's own."""
    return jax.vmap(lambda x: self.game.legal(x)[:-1] & ~self.game.own_eyes(x))(states)

  def policy_logits(self, variables: Variables, states: State) -> Array:
    """Returns float32 `[B, N^2 + 1]`: log probabilities over points, of sensible moves.

    A pass has `PASS_LOGIT`, all other moves `EXCLUDED_LOGIT`.
    """
    logits = jax.nn.log_softmax(self(variables, self.inputs(states)))
    logits = jnp.where(self.sensible(states), logits, EXCLUDED_LOGIT)
    return jnp.pad(logits, ((0, 0), (0, 1)), constant_values=PASS_LOGIT)

  def uniform_logits(self, states: State) -> Array:
    """Returns the same of a policy that prefers no sensible move to another."""
    logits = jnp.where(self.sensible(states), 0.0, EXCLUDED_LOGIT)
    return jnp.pad(logits, ((0, 0), (0, 1)), constant_values=PASS_LOGIT)

  def player(self, variables: Variables) -> Player:
    """Returns a player that samples moves from the policy; -1 where this is not finite."""

    def choose(states: State, keys: Array) -> Array:
      logits = self.policy_logits(variables, states)
      drawn = jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
      return jnp.where(jnp.isfinite(logits).all(-1), drawn, -1)

    return choose

  def evaluator(self, variables: Variables) -> Evaluate:
    """Returns the search's evaluator of a policy; it knows no values, so these are all 0."""

    def evaluate(states: State, keys: Array) -> tuple[Array, Array]:
      values = jnp.zeros_like(jax.random.key_data(keys)[:, 0], jnp.float32)
      return self.policy_logits(variables, states), values

    return evaluate


def load_policy(workdir: str, key: str, size: int, input_kind: str) -> tuple[GoNetwork, Variables]:
  """Returns the policy network of another run, with its variables as NumPy arrays.

  Args:
    workdir: of a run of go_policy or go_reinforce.
    key: the config's key that names the workdir, for errors.
    size: N, of the board that it must be for.
    input_kind: what it must see.

  Raises:
    UserError: if the run is of another kind, input or board.
  """
  return policy_of(workdir, key, size, input_kind), load_weights(workdir).variables


def policy_of(workdir: str, key: str, size: int, input_kind: str) -> GoNetwork:
  """Returns the policy network of another run by its config alone; see `load_policy`."""
  config = read_config(workdir)
  task = config['task']['name']
  if task in POLICY_TASKS:
    network = GoNetwork(config['model'], config[POLICY_TASKS[task]]['size'], POLICY_INPUTS)
    if (network.input_kind, network.size) == (input_kind, size):
      return network
  raise UserError(
    f'{key}={workdir!r}: a run of task {task} and model {config["model"]["name"]}; must be of'
    f' {" or ".join(POLICY_TASKS)} with a model that sees {input_kind} of a board of size {size}'
  )
