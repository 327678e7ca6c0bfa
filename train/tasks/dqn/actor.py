"""An agent that acts in R environments at once, each of which begins anew when its episode ends.

What it does becomes rows, one a step and environment. Most rows are transitions, whose next
observation is in the next row. An episode that its time limit ends, by which the agent has not
failed, has one row more: its last observation, from which a target can be bootstrapped; nothing is
done in it (`valid` is false).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from data.environments import Environment


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Agents:
  """Environments under way, `[R, ...]`.

  state: of the environment.
  recent: the last H - 1 observations of the episode, zeros before it, `[R, H - 1, ...]`.
  key: of all that is random in it. count: int32, the rows that it has written.
  length: int32, steps of the episode so far. total: float32, its rewards, not clipped.
  over: bool, whether the time limit has ended it, so that the next row is its last observation.
  """

  state: Any
  recent: Array
  key: Array
  count: Array
  length: Array
  total: Array
  over: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Row:
  """One step, `[R, ...]`: what was seen, done, and what followed.

  observation: as the environment gives it. action: int32. reward: float32, not clipped.
  terminal: bool, whether the episode ended there. first: bool, whether it began there.
  valid: bool, whether it is a transition. value: float32, the largest Q; not kept.
  """

  observation: Array
  action: Array
  reward: Array
  terminal: Array
  first: Array
  valid: Array
  value: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ended:
  """Which episodes ended with a step, `[R]`.

  now: bool. total: float32, the return, and length: int32, the steps; 0 of all others.
  """

  now: Array
  total: Array
  length: Array


def init(environment: Environment, history: int, keys: Array) -> Agents:
  """Returns environments at their beginnings; keys: `[R]`, one for each."""
  count, seen = len(keys), environment.observation
  return Agents(
    state=jax.vmap(environment.init)(jax.vmap(jax.random.fold_in, (0, None))(keys, 2**31 - 1)),
    recent=jnp.zeros((count, history - 1, *seen.shape), seen.dtype),
    key=keys,
    count=jnp.zeros(count, jnp.int32),
    length=jnp.zeros(count, jnp.int32),
    total=jnp.zeros(count, jnp.float32),
    over=jnp.zeros(count, bool),
  )


def stacked(frames: Array, lead: int = 1) -> Array:
  """Returns histories `[..., H, h, w, C]` as the network sees them, `[..., h, w, H C]`.

  lead: the number of axes before that of the history, whose oldest frame comes first.
  """
  shape = frames.shape
  channels = shape[lead] * shape[-1]
  return jnp.moveaxis(frames, lead, -2).reshape(*shape[:lead], *shape[lead + 1 : -1], channels)


def step(
  environment: Environment, q_values: Callable[[Array], Array], actors: Agents, epsilon: Array
) -> tuple[Agents, Row, Ended]:
  """Acts once in each environment.

  Args:
    environment: whose functions are of one state.
    q_values: from histories as `stacked` returns them to `[R, A]`.
    actors: as they are.
    epsilon: float32 `[]`, the probability of a random action.

  Returns:
    The actors after it, the rows, and the episodes that ended.
  """
  observation = jax.vmap(environment.observe)(actors.state)
  frames = jnp.concatenate([actors.recent, observation[:, None]], 1)
  keys = jax.vmap(jax.random.fold_in)(actors.key, actors.count)
  split = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
  explore, chance, moving, beginning = (split[:, i] for i in range(4))
  random = jax.vmap(lambda key: jax.random.randint(key, (), 0, environment.num_actions))(chance)
  is_random = jax.vmap(jax.random.uniform)(explore) < epsilon
  q = q_values(stacked(frames))
  action = jnp.where(is_random, random, q.argmax(-1))
  state, reward, terminal = jax.vmap(environment.step)(actors.state, action, moving)
  # Where the time limit has ended the episode, what the step did is as if it had not been.
  reward, terminal = jnp.where(actors.over, 0, reward), terminal & ~actors.over
  row = Row(observation, action, reward, terminal, actors.length == 0, ~actors.over, q.max(-1))
  length, total = actors.length + ~actors.over, actors.total + reward
  anew = terminal | actors.over
  limit = environment.time_limit
  over = ~anew & (length >= limit) if limit else jnp.zeros_like(anew)
  ended = terminal | over
  fresh = jax.vmap(environment.init)(beginning)
  new = Agents(
    state=jax.tree.map(lambda a, b: _where(anew, a, b), fresh, state),
    recent=_where(anew, jnp.zeros_like(actors.recent), frames[:, 1:]),
    key=actors.key,
    count=actors.count + 1,
    length=jnp.where(anew, 0, length),
    total=jnp.where(anew, 0, total),
    over=over,
  )
  return new, row, Ended(ended, jnp.where(ended, total, 0), jnp.where(ended, length, 0))


def _where(condition: Array, a: Array, b: Array) -> Array:
  return jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)
