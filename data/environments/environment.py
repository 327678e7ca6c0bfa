"""The contract of an environment: one agent, observations, actions, rewards, episodes.

Every function is pure and works on one unbatched state; batches come from `jax.vmap` at the call
site. An `Environment` written from this page alone is trained on by the task `dqn`, evaluated, and
shown in its report; `cartpole.py` is an example to begin from.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

State = Any
"""All that an episode under way needs: a pytree of arrays of fixed shapes and dtypes."""


@dataclasses.dataclass(frozen=True)
class Environment:
  """An environment as a bundle of pure functions that can be traced by `jax.jit`.

  Required:

  name: what users call it.
  num_actions: A; an action is an int32 in [0, A).
  init: key -> the state at the beginning of an episode.
  step: (state, action, key) -> (state, reward float32 `[]`, terminal bool `[]`). What follows a
    terminal state is never asked for. Time limits belong into `time_limit`, for an agent that is
    stopped has not failed.
  observe: state -> what the agent sees: bool `[H, W, C]`, or float32 of any shape.

  Optional:

  time_limit: steps after which an episode is truncated; 0 for never. The value of what would have
    come then still counts (truncation is no termination).
  render: the observation of a state on the host (NumPy) -> a picture, uint8 `[h, w, 3]`.
  """

  on_host: ClassVar[bool] = False
  name: str
  num_actions: int
  init: Callable[[Array], State]
  step: Callable[[State, Array, Array], tuple[State, Array, Array]]
  observe: Callable[[State], Array]
  time_limit: int = 0
  render: Callable[[np.ndarray], np.ndarray] = lambda observation: draw_planes(observation)

  def __post_init__(self):
    if self.time_limit < 0:
      raise ValueError(f'time_limit={self.time_limit}: must be at least 0, which is never')

  @property
  def observation(self) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of an observation."""
    return jax.eval_shape(lambda: self.observe(self.init(jax.random.key(0))))


class Sticky(NamedTuple):
  """A state, and the action (int32 `[]`) that was executed last; 0 at an episode's beginning."""

  state: State
  action: Array


def sticky(environment: Environment, probability: float) -> Environment:
  """Returns the environment with sticky actions (Machado et al. 2018, section 5.2).

  Each step executes, with this probability, the action executed before instead of the agent's.

  Raises:
    ValueError: the probability is not in [0, 1).
  """
  if not 0 <= probability < 1:
    raise ValueError(f'sticky={probability}: must be in [0, 1), a probability')
  if not probability:
    return environment

  def step(old: Sticky, action: Array, key: Array) -> tuple[Sticky, Array, Array]:
    stick_key, key = jax.random.split(key)
    stuck = jax.random.uniform(stick_key) < probability
    action = jnp.where(stuck, old.action, action)
    state, reward, terminal = environment.step(old.state, action, key)
    return Sticky(state, action), reward, terminal

  return dataclasses.replace(
    environment,
    init=lambda key: Sticky(environment.init(key), jnp.int32(0)),
    step=step,
    observe=lambda sticky: environment.observe(sticky.state),
  )


# -------- pictures --------

COLOURS = np.array(
  [
    *((230, 57, 70), (69, 123, 157), (244, 162, 97), (42, 157, 143), (233, 196, 106)),
    *((131, 56, 236), (255, 0, 110), (58, 134, 255), (6, 214, 160), (160, 108, 80)),
  ],
  np.uint8,
)


def draw_planes(observation: np.ndarray, scale: int = 8) -> np.ndarray:
  """Returns planes `[H, W, C]` as squares of `scale` pixels, each plane in a colour of its own.

  Later planes lie over earlier ones. Any other observation is drawn as a column for each number,
  grey at 0, black at -3 and white at 3.
  """
  if observation.dtype != bool or observation.ndim != 3:
    levels = np.clip(128 + 42 * observation.reshape(1, -1, 1), 0, 255).astype(np.uint8)
    return _enlarged(np.repeat(levels, 3, -1), 4 * scale)
  picture = np.full((*observation.shape[:2], 3), 18, np.uint8)
  for channel in range(observation.shape[-1]):
    picture[observation[..., channel]] = COLOURS[channel % len(COLOURS)]
  return _enlarged(picture, scale)


def _enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
  return picture.repeat(scale, 0).repeat(scale, 1)
