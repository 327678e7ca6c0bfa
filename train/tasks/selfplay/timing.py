"""Where a step of self-play spends its time: its parts, as large as each device has them, timed."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mcts.game import Game, beginnings
from mcts.selfplay import actor
from mcts.selfplay.actor import SelfPlay
from train.task import Variables

ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Parts:
  """Shares of a step, which together are 1: `training` (the network's gradients), and of play
  `network`, `environment` (moves, legal moves and planes), and `search`, which is the rest.

  apply: (variables, planes) to logits and values. learn: (variables, planes) to gradients. slots,
  batch: games and positions of one device; moves: that each game makes in a step.
  """

  game: Game
  settings: SelfPlay
  apply: Callable[[Variables, Array], Any]
  learn: Callable[[Variables, Array], Any]
  slots: int
  batch: int
  moves: int

  def __call__(self, variables: Variables) -> dict[str, float]:
    looks = self.moves * (1 + self.settings.simulations)
    states = beginnings(self.game, self.slots)
    planes, learnt = (self._planes(number) for number in (self.slots, self.batch))
    look, learn, step, move = self._programs
    network = looks * seconds(look, variables, planes)
    environment = looks * seconds(step, states)
    play = self.moves * seconds(move, variables)
    training = seconds(learn, variables, learnt)
    parts = {
      'network': network,
      'environment': environment,
      'search': max(play - network - environment, 0.0),
      'training': training,
    }
    whole = sum(parts.values())
    return {name: part / whole for name, part in parts.items()}

  @functools.cached_property
  def _programs(self) -> tuple[Callable, ...]:
    """Compiled once for all evaluations of a run."""
    parts: tuple[Callable, ...] = (self.apply, self.learn, self._environment, self._play)
    return tuple(jax.jit(part) for part in parts)

  def _planes(self, number: int) -> Array:
    return jax.vmap(self.game.observe)(beginnings(self.game, number)).astype(jnp.float32)

  def _environment(self, states: Any) -> tuple[Any, Array, Array]:
    actions = jax.vmap(self.game.legal)(states).argmax(-1)
    states = jax.vmap(self.game.step)(states, actions)
    return states, jax.vmap(self.game.legal)(states), jax.vmap(self.game.observe)(states)

  def _play(self, variables: Variables) -> Any:
    settings, key = dataclasses.replace(self.settings, full=1.0), jax.random.key(0)
    actors = actor.start(self.game, settings, jax.random.split(key, self.slots))
    look = lambda planes: self.apply(variables, planes)  # noqa: E731
    return actor.play(self.game, settings, look, actors, key, jnp.float32(-1))


def seconds(program: Callable, *args: Any) -> float:
  """The median time of a call, the first left out, which may compile."""
  times = []
  for _ in range(1 + ROUNDS):
    start = time.perf_counter()
    jax.block_until_ready(program(*args))
    times.append(time.perf_counter() - start)
  return statistics.median(times[1:])
