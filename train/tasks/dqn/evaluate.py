"""Episodes that are measured, and one that is shown."""

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from PIL import Image

from data.environments import Environment
from train.task import Variables
from train.tasks.dqn import actor

SHOWN = 500  # steps of the episode in a moving picture
MILLISECONDS = 60  # each of its frames is shown

Network = Callable[[Variables, Array], Array]
"""(variables, inputs `[N, S, ...]`) -> Q values `[N, S, A]`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeasuredEpisodes:
  """Finished episodes, `[N, S]` each.

  total: float32, undiscounted rewards as the environment gives them. length: int32.
  predicted, realised: float32, sums over the steps of the largest Q, and of the discounted rewards
    that followed, clipped as in training.
  """

  total: Array
  length: Array
  predicted: Array
  realised: Array


def play(
  environment: Environment,
  network: Network,
  variables: Variables,
  keys: Array,
  *,
  history: int,
  epsilon: float,
  max_steps: int,
  discount: float,
  clip: bool,
) -> MeasuredEpisodes:
  """Plays an episode in each of keys `[N, S]`; traced by `jax.jit`."""
  shape, count = keys.shape, keys.size

  def q_values(inputs: Array) -> Array:
    q = network(variables, inputs.reshape(*shape, *inputs.shape[1:]))
    return q.reshape(count, -1)

  def one(carry):
    at, actors, open_, total, length, rewards, values = carry
    actors, row, ended = actor.step(environment, q_values, actors, jnp.float32(epsilon))
    rewards = rewards.at[at].set(jnp.where(open_, row.reward, 0))
    values = values.at[at].set(jnp.where(open_, row.value, 0))
    total, length = total + jnp.where(open_, row.reward, 0), length + open_
    return at + 1, actors, open_ & ~ended.now, total, length, rewards, values

  empty = jnp.zeros((max_steps, count))
  start = (
    jnp.int32(0),
    actor.init(environment, history, keys.reshape(-1)),
    jnp.ones(count, bool),
    jnp.zeros(count),
    jnp.zeros(count, jnp.int32),
    empty,
    empty,
  )
  played = lax.while_loop(lambda x: x[2].any() & (x[0] < max_steps), one, start)
  total, length, rewards, values = played[3:]
  rewards = jnp.clip(rewards, -1, 1) if clip else rewards

  def back(following, reward):
    following = reward + discount * following
    return following, following

  _, returns = lax.scan(back, jnp.zeros(count), rewards, reverse=True)
  inside = jnp.arange(max_steps)[:, None] < length[None]
  sums = (values.sum(0), jnp.where(inside, returns, 0).sum(0))
  return MeasuredEpisodes(*(x.reshape(shape) for x in (total, length, *sums)))


def figures(
  episodes: MeasuredEpisodes, epsilon: float, environment: Any
) -> dict[str, dict[str, float]]:
  """Returns what evaluations report: name -> metric -> value.

  'eval' has the mean over seeds of their mean returns, and its standard deviation, and where it is
  known what is 0 for random play and 1 for a human; each of several seeds has its own 'return';
  'predicted' and 'realised' values are means over steps.
  """
  total, length = (np.asarray(x, np.float64) for x in (episodes.total, episodes.length))
  steps, means = length.sum(), total.mean(0)
  found = {
    'eval': {'return': means.mean(), 'length': length.mean(), 'epsilon': epsilon},
    'predicted': {'value': np.asarray(episodes.predicted, np.float64).sum() / steps},
    'realised': {'value': np.asarray(episodes.realised, np.float64).sum() / steps},
  }
  if len(means) > 1:
    found['eval']['return_std'] = means.std(ddof=1)
    found |= {f'seed{i}': {'return': mean} for i, mean in enumerate(means)}
  if scores := getattr(environment, 'scores', None):
    found['eval']['normalised'] = (means.mean() - scores[0]) / (scores[1] - scores[0])
  return {name: {key: float(x) for key, x in part.items()} for name, part in found.items()}


def record(
  environment: Environment,
  network: Network,
  variables: Variables,
  key: Array,
  *,
  history: int,
  epsilon: float,
) -> tuple[Array, Array, Array]:
  """Returns observations `[SHOWN, ...]` of the first seed, rewards, and which step ended it."""

  def q_values(inputs: Array) -> Array:
    first = jax.tree.map(lambda x: x[:1], variables)
    return network(first, inputs[:, None])[:, 0]

  def one(actors, _):
    actors, row, ended = actor.step(environment, q_values, actors, jnp.float32(epsilon))
    return actors, (row.observation[0], row.reward[0], ended.now[0])

  actors = actor.init(environment, history, key[None])
  return lax.scan(one, actors, None, SHOWN)[1]


def moving_picture(environment: Environment, recorded: Any) -> bytes:
  """Returns the first episode of `record` as an animated PNG."""
  observations, _, ended = (np.asarray(x) for x in recorded)
  last = int(ended.argmax()) + 1 if ended.any() else len(ended)
  frames = [Image.fromarray(environment.render(x)) for x in observations[:last]]
  file = io.BytesIO()
  frames[0].save(
    file, 'PNG', save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0
  )
  return file.getvalue()
