"""The replay: a ring of L rows for each of R environments, on the device that plays it.

Of S seeds that are trained at once, each with E environments, ring e S + s belongs to seed s. All
environments act in step, so all write to the same place of their rings. Each observation is kept
once, bool planes as bits: the next observation is the next row's, and a history is put together
when it is sampled. What is sampled never reaches across the ring's head, where the newest rows meet
the oldest, nor across the beginning of an episode.

`count`, int32 `[]`, is everywhere the number of rows that each ring was ever given.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from train.tasks.dqn.actor import Row


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Experience:
  """Rings, `[R, L, ...]`.

  observation: uint8 `[R, L, bytes]` of bool planes, else as it is. action: int32.
  reward: float32. terminal, first, valid: bool, as of `actor.Row`.
  priority: float32, a transition's chance to be sampled, not normalised; without priorities
    `[R, 0]`.
  """

  observation: Array
  action: Array
  reward: Array
  terminal: Array
  first: Array
  valid: Array
  priority: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transitions:
  """Transitions of n steps, `[N, S, ...]`.

  frames, next_frames: histories `[N, S, H, ...]` at their begin and after them.
  action: int32. reward: float32, discounted and added up.
  discount: float32, of what follows; 0 if the episode ended.
  mask: float32, 0 for a row that is no transition.
  weight: float32, that corrects for priorities; 1 without.
  ring, place: int32, where it lies.
  """

  frames: Array
  next_frames: Array
  action: Array
  reward: Array
  discount: Array
  mask: Array
  weight: Array
  ring: Array
  place: Array


@dataclasses.dataclass(frozen=True)
class Layout:
  """What is kept, and how it is sampled.

  observation: shape and dtype of one.
  length: L.
  seeds: S.
  history: H, the observations that a network sees at once.
  n_step, discount: of the targets.
  priority, correction: alpha and beta; alpha 0: uniform.
  """

  observation: jax.ShapeDtypeStruct
  length: int
  seeds: int = 1
  history: int = 1
  n_step: int = 1
  discount: float = 0.99
  priority: float = 0.0
  correction: float = 0.4

  @property
  def packed(self) -> bool:
    """Returns whether observations are kept as bits."""
    return self.observation.dtype == bool

  def bytes(self, rings: int) -> int:
    """Returns the bytes of so many rings."""
    empty = jax.eval_shape(lambda: init(self, rings))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(empty))


def init(layout: Layout, rings: int) -> Experience:
  """Returns empty rings."""
  seen = layout.observation

  def empty(shape, dtype, length=layout.length):
    return jnp.zeros((rings, length, *shape), dtype)

  frames = empty((-(-math.prod(seen.shape) // 8),), jnp.uint8)
  return Experience(
    observation=frames if layout.packed else empty(seen.shape, seen.dtype),
    action=empty((), jnp.int32),
    reward=empty((), jnp.float32),
    terminal=empty((), bool),
    first=empty((), bool),
    valid=empty((), bool),
    priority=empty((), jnp.float32, layout.length if layout.priority else 0),
  )


def write(layout: Layout, replay: Experience, rows: Row, count: Array) -> Experience:
  """Returns the replay with T more rows in each ring; rows: `[T, R, ...]`, T divides L."""
  steps, rings = rows.action.shape
  place = count % layout.length

  def put(ring, x):
    # One slice of all rings, which XLA updates in place, where a scatter might copy them.
    x = x.swapaxes(0, 1).astype(ring.dtype)
    start = (jnp.zeros_like(place), place, *(jnp.zeros_like(place),) * (ring.ndim - 2))
    return lax.dynamic_update_slice(ring, x, start)

  seen = rows.observation
  if layout.packed:
    seen = jnp.packbits(seen.reshape(steps, rings, -1), axis=-1)
  same = ('action', 'reward', 'terminal', 'first', 'valid')
  changes = {name: put(getattr(replay, name), getattr(rows, name)) for name in same}
  if layout.priority:
    # New ones are as likely as the likeliest of their seed, so that each is learned from soon.
    of_seeds = replay.priority.reshape(-1, layout.seeds, layout.length).max((0, 2))
    largest = jnp.where(count == 0, 1.0, of_seeds)  # [S]
    new = jnp.tile(largest, rings // layout.seeds)[None] * rows.valid
    changes['priority'] = put(replay.priority, new)
  return dataclasses.replace(replay, observation=put(replay.observation, seen), **changes)


def ages(layout: Layout, count: Array) -> tuple[int, Array]:
  """Returns the least age that may be sampled, and how many ages; the newest row has age 0.

  A younger row's followers are not written yet, and of the oldest ones in a full ring the history
  is overwritten.
  """
  held = jnp.minimum(count, layout.length - (layout.history - 1))
  return layout.n_step, held - layout.n_step


def sample(
  layout: Layout, replay: Experience, key: Array, number: int, count: Array
) -> Transitions:
  """Returns `number` transitions of each seed, with replacement, uniformly or by priority."""
  youngest, span = ages(layout, count)
  shape, seeds = (number, layout.seeds), jnp.arange(layout.seeds)[None]
  if layout.priority:
    env, place, weight = _by_priority(layout, replay, key, number, count)
  else:
    env_key, age_key = jax.random.split(key)
    env = jax.random.randint(env_key, shape, 0, len(replay.action) // layout.seeds)
    age = youngest + jax.random.randint(age_key, shape, 0, jnp.maximum(span, 1))
    place, weight = (count - 1 - age) % layout.length, jnp.ones(shape)
  ring = env * layout.seeds + seeds
  reward, steps, ended = _sum_rewards(layout, replay, ring, place)
  return Transitions(
    frames=_history(layout, replay, ring, place),
    next_frames=_history(layout, replay, ring, (place + steps) % layout.length),
    action=replay.action[ring, place],
    reward=reward,
    discount=jnp.where(ended, 0.0, layout.discount**steps),
    mask=replay.valid[ring, place].astype(jnp.float32) * (span > 0),
    weight=weight,
    ring=ring,
    place=place,
  )


def _by_priority(
  layout: Layout, replay: Experience, key: Array, number: int, count: Array
) -> tuple[Array, Array, Array]:
  """Returns environments, places and weights `[N, S]`, one of each N-th part of all chances.

  The weights are divided by the largest of the seed (Schaul et al. 2016, algorithm 1).
  """
  youngest, span = ages(layout, count)
  age = (count - 1 - jnp.arange(layout.length)) % layout.length
  allowed = (age >= youngest) & (age < youngest + span)
  chance = jnp.where(allowed[None], replay.priority, 0.0)  # [E S, L]
  chance = chance.reshape(-1, layout.seeds, layout.length).swapaxes(0, 1)
  chance = chance.reshape(layout.seeds, -1)  # [S, E L]
  upto = jnp.cumsum(chance, -1)
  parts = jnp.arange(number)[None] + jax.random.uniform(key, (layout.seeds, number))
  points = parts / number * upto[:, -1:]
  at = jax.vmap(lambda a, b: jnp.searchsorted(a, b, side='right'))(upto, points)
  at = jnp.minimum(at, chance.shape[1] - 1)  # [S, N]
  likelihood = jnp.maximum(jnp.take_along_axis(chance, at, 1), 1e-12)
  weight = likelihood**-layout.correction
  weight /= weight.max(1, keepdims=True)
  return at.T // layout.length, at.T % layout.length, weight.T


def reprioritise(
  layout: Layout, replay: Experience, sample: Transitions, error: Array
) -> Experience:
  """Returns the replay with the priorities of sampled rows by their TD errors `[N, S]`."""
  new = (jnp.abs(error) + 1e-6) ** layout.priority * sample.mask
  return dataclasses.replace(
    replay, priority=replay.priority.at[sample.ring, sample.place].set(new)
  )


def _sum_rewards(
  layout: Layout, replay: Experience, ring: Array, place: Array
) -> tuple[Array, Array, Array]:
  """Returns the discounted rewards of up to n steps, how many these were, whether they ended it.

  They stop at the end of the episode, and before a row that is no transition: it has the last
  observation of an episode that the time limit ended.
  """
  total, steps = jnp.zeros(ring.shape), jnp.zeros(ring.shape, jnp.int32)
  ended = stopped = jnp.zeros(ring.shape, bool)
  for k in range(layout.n_step):
    at = (place + k) % layout.length
    stopped |= ~replay.valid[ring, at]
    goes_on = ~ended & ~stopped
    total += jnp.where(goes_on, layout.discount**k * replay.reward[ring, at], 0.0)
    steps += goes_on
    ended |= goes_on & replay.terminal[ring, at]
  return total, steps, ended


def _history(layout: Layout, replay: Experience, ring: Array, place: Array) -> Array:
  """Returns `[N, S, H, ...]`, the last H observations of the same episode, zeros before it."""
  shape = layout.observation.shape
  frames, same = [], jnp.ones(ring.shape, bool)
  for back in range(layout.history):
    at = (place - back) % layout.length
    seen = replay.observation[ring, at]
    if layout.packed:
      seen = jnp.unpackbits(seen, axis=-1, count=math.prod(shape)).astype(bool)
    seen = seen.reshape(*ring.shape, *shape)
    here = same.reshape(*ring.shape, *(1,) * len(shape))
    frames.append(jnp.where(here, seen, jnp.zeros_like(seen)))
    same &= ~replay.first[ring, at]
  return jnp.stack(frames[::-1], ring.ndim)
