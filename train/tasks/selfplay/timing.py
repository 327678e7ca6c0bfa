"""Where a step of self-play spends its time: its parts timed alone, as large as on one device."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mcts.game import Game, initial_states
from mcts.selfplay import actor
from mcts.selfplay.settings import SelfPlay
from train.task import Variables

ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class StepTimings:
  """An evaluation that returns shares of a step's time, which add up to 1.

  'training' is the network's gradients; of play, 'network' is its evaluations, 'environment' the
  moves, legal moves and planes, and 'search' the rest.

  apply: (variables, planes) -> logits and values.
  gradients: (variables, planes) -> gradients.
  num_envs, batch_size: environments and positions of one device.
  moves_per_step: that each game makes for a training step.
  """

  game: Game
  settings: SelfPlay
  apply: Callable[[Variables, Array], Any]
  gradients: Callable[[Variables, Array], Any]
  num_envs: int
  batch_size: int
  moves_per_step: int

  def __call__(self, variables: Variables) -> dict[str, float]:
    evaluations = self.moves_per_step * (1 + self.settings.search.num_simulations)
    states = initial_states(self.game, self.num_envs)
    planes, batch = (self._planes(count) for count in (self.num_envs, self.batch_size))
    apply, gradients, environment, play = self._programs
    network = evaluations * seconds(apply, variables, planes)
    rules = evaluations * seconds(environment, states)
    moves = self.moves_per_step * seconds(play, variables)
    timings = {
      'network': network,
      'environment': rules,
      'search': max(moves - network - rules, 0.0),
      'training': seconds(gradients, variables, batch),
    }
    total = sum(timings.values())
    return {name: spent / total for name, spent in timings.items()}

  @functools.cached_property
  def _programs(self) -> tuple[Callable, ...]:
    """Returns the parts, compiled once for all evaluations of a run."""
    parts: tuple[Callable, ...] = (self.apply, self.gradients, self._environment, self._play)
    return tuple(jax.jit(part) for part in parts)

  def _planes(self, count: int) -> Array:
    return jax.vmap(self.game.observe)(initial_states(self.game, count)).astype(jnp.float32)

  def _environment(self, states: Any) -> tuple[Any, Array, Array]:
    actions = jax.vmap(self.game.legal)(states).argmax(-1)
    states = jax.vmap(self.game.step)(states, actions)
    return states, jax.vmap(self.game.legal)(states), jax.vmap(self.game.observe)(states)

  def _play(self, variables: Variables) -> Any:
    search = dataclasses.replace(self.settings.search, full_search_prob=1.0)
    settings, key = dataclasses.replace(self.settings, search=search), jax.random.key(0)
    actors = actor.init(self.game, settings, jax.random.split(key, self.num_envs))
    apply = functools.partial(self.apply, variables)
    return actor.play(self.game, settings, apply, actors, key, jnp.float32(-1))


def seconds(program: Callable, *args: Any) -> float:
  """Returns the median time of a call in seconds, without the first, which may compile."""
  times = []
  for _ in range(1 + ROUNDS):
    start = time.perf_counter()
    jax.block_until_ready(program(*args))
    times.append(time.perf_counter() - start)
  return statistics.median(times[1:])
