"""Chooses the next token from logits: temperature, top-k, top-p, min-p, a repetition penalty."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import ops

Numbers = Mapping[str, Any]  # float32 scalars
TINY, HUGE = np.finfo(np.float32).tiny, np.finfo(np.float32).max


class Filters(NamedTuple):
  """What of a `Sampling` is compiled in: which filters are on, and how many logits top-k keeps."""

  greedy: bool
  repetition_penalty: bool
  top_k: int
  top_p: bool
  min_p: bool


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a token is chosen. The filters act in the order below, each on what the last has left.

  Attributes:
    repetition_penalty: from 1e-30 to 1e30. Logits of tokens that the sequence holds, its prompt
      included, are divided by it, negative ones multiplied: above 1 they become less likely.
      Keskar et al. 2019 (arXiv 1909.05858), section 4.1, which divides both and recommends 1.2.
    top_k: >= 0. The k largest are kept, of equal ones the lowest ids; 0 keeps all.
      Fan et al. 2018 (arXiv 1805.04833), section 5.4.
    temperature: >= 0. Logits are divided by it; at 0 the largest is taken, the lowest id of equals.
    top_p: in (0, 1]. The most likely are kept, as few as have this mass together.
      Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.
    min_p: in [0, 1]. Kept is what has at least this share of the most likely one's probability.
      Nguyen et al. 2024 (arXiv 2407.01082), section 3.

  Raises:
    ValueError: a number is outside of its range.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  repetition_penalty: float = 1.0

  def __post_init__(self):
    penalty = self.repetition_penalty
    for name, holds, rule in (
      ('temperature', 0 <= self.temperature < np.inf, 'must be a number >= 0; 0 is greedy'),
      ('top_k', 0 <= self.top_k < np.inf and self.top_k % 1 == 0, 'must be an integer >= 0'),
      ('top_p', 0 < self.top_p <= 1, 'must be in (0, 1]; 1 keeps all'),
      ('min_p', 0 <= self.min_p <= 1, 'must be in [0, 1]; 0 keeps all'),
      ('repetition_penalty', penalty > 0, 'must be a number > 0; 1 changes nothing'),
    ):
      if not holds:
        raise ValueError(f'sampling.{name}={getattr(self, name)!r}: {rule}')
    for name, number in self.numbers.items():
      if (number == 0) != (getattr(self, name) == 0) or not np.isfinite(number):
        raise ValueError(
          f'sampling.{name}={getattr(self, name)!r}: is {number} in float32, in which it is used'
        )
    if not 1e-30 <= penalty <= 1e30:  # beyond, logits of ordinary sizes leave float32
      raise ValueError(f'sampling.repetition_penalty={penalty!r}: must be from 1e-30 to 1e30')

  @property
  def filters(self) -> Filters:
    """What a program is compiled for."""
    return Filters(
      greedy=self.temperature == 0,
      repetition_penalty=self.repetition_penalty != 1,
      top_k=int(self.top_k),
      top_p=self.top_p < 1,
      min_p=self.min_p > 0,
    )

  @property
  def numbers(self) -> dict[str, np.float32]:
    """What may change without a new compilation."""
    names = ('temperature', 'top_p', 'min_p', 'repetition_penalty')
    with np.errstate(over='ignore'):
      found = {name: np.float32(getattr(self, name)) for name in names}
    # Devices take subnormal numbers, and the inverses of the largest, for 0: none of these means 0.
    return {name: np.clip(x, TINY, 1 / TINY) if 0 < x < np.inf else x for name, x in found.items()}


def filter_logits(logits: Array, sampling: Sampling, seen: Array | None = None) -> Array:
  """Returns logits `[B, V]` whose softmax a token is drawn from, up to a constant in each row.

  Args:
    logits: float32 `[B, V]`.
    sampling: the filters; what they drop becomes -inf.
    seen: bool `[B, V]`, the tokens that each sequence holds, for the repetition penalty.

  Raises:
    ValueError: there is a repetition penalty, and no `seen`.
  """
  return _filter(logits, sampling.filters, sampling.numbers, seen)


def _filter(logits: Array, filters: Filters, numbers: Numbers, seen: Array | None) -> Array:
  logits = _penalised(logits, filters, numbers, seen)
  top_k = 1 if filters.greedy else filters.top_k
  if 0 < top_k < logits.shape[-1]:
    logits = _keep(logits, _most_likely(logits, top_k))
  if filters.greedy:
    return logits
  # Less the largest, so that no temperature overflows; rounding may make equals of what was not.
  logits = (logits - logits.max(-1, keepdims=True)) / numbers['temperature']
  if filters.top_p:
    logits = _keep(logits, _nucleus(jnp.exp(logits), numbers['top_p']))
  if filters.min_p:
    logits = _keep(logits, jnp.exp(logits) >= numbers['min_p'])
  return logits


def _keep(logits, kept):
  return jnp.where(kept, logits, -jnp.inf)


def _penalised(logits, filters: Filters, numbers: Numbers, seen: Array | None):
  if not filters.repetition_penalty:
    return logits
  if seen is None:
    raise ValueError('seen=None: a repetition penalty needs to know the tokens of each sequence')
  penalty = numbers['repetition_penalty']
  penalised = jnp.where(logits > 0, logits / penalty, logits * penalty)
  return jnp.where(seen, jnp.clip(penalised, -HUGE, HUGE), logits)


def _most_likely(logits, k: int):
  """Returns bool `[B, V]`: the k largest of each row."""
  _, ids = ops.top_k(logits, k)
  rows = jnp.arange(logits.shape[0])[:, None]
  return jnp.zeros(logits.shape, bool).at[rows, ids].set(True)


def _nucleus(weights, share):
  """Returns bool `[B, V]`: the fewest weights >= 0, largest first, that have `share` of their sum.

  The least weight that is kept is found bit by bit, from its highest, without a sort: as integers,
  the bits of floats >= 0 are in their order. Of the weights equal to it the lowest ids are kept, as
  needed.
  """
  wanted = share * weights.sum(-1, keepdims=True)
  order = lax.bitcast_convert_type(weights, jnp.int32)

  def add_bit(i, least):
    higher = least | (jnp.int32(1) << (30 - i))
    mass = jnp.where(order >= higher, weights, 0.0).sum(-1, keepdims=True)
    return jnp.where(mass >= wanted, higher, least)

  least = lax.fori_loop(0, 31, add_bit, jnp.zeros((weights.shape[0], 1), jnp.int32))
  above = jnp.where(order > least, weights, 0.0).sum(-1, keepdims=True)
  equal = order == least
  needed = jnp.ceil((wanted - above) / lax.bitcast_convert_type(least, jnp.float32))
  needed = jnp.maximum(needed, above == 0)  # the likeliest token stays, however small the share
  rank = jnp.cumsum(equal, -1, dtype=jnp.int32).astype(jnp.float32)
  return (order > least) | (equal & (rank <= needed))


def _draw(key, weights):
  """Draws an index of `weights` `[V]` >= 0 with a probability in proportion to its weight.

  A group of neighbours first, then one of the group: two uniform numbers, where Gumbel's trick
  takes V of them and as many logarithms.
  """
  size = int(np.ceil(np.sqrt(weights.shape[0])))
  groups = jnp.pad(weights, (0, size * size - weights.shape[0])).reshape(size, size)
  first, second = jax.random.uniform(key, (2,))
  group = _below(first, groups.sum(-1))
  return group * size + _below(second, groups[group])


def _below(uniform, weights):
  """Returns the first index whose cumulative weight exceeds `uniform` in [0, 1) times their sum."""
  # Sums of prefixes are rounded, each in its way: without a weight of its own, none is drawn.
  total = jnp.where(weights > 0, jnp.cumsum(weights), 0)
  return jnp.argmax(total > uniform * total.max()).astype(jnp.int32)


def sample_tokens(
  logits: Array, keys: Array, filters: Filters, numbers: Numbers, seen: Array | None
) -> Array:
  """Returns a token for each row, int32 `[B]`.

  Args:
    logits: float32 `[B, V]`.
    keys: `[B]`, which are used up.
    filters: those of a `Sampling`.
    numbers: those of the same `Sampling`.
    seen: see `filter_logits`.
  """
  if filters.greedy:
    return ops.top_k(_penalised(logits, filters, numbers, seen), 1)[1][:, 0]
  return jax.vmap(_draw)(keys, jnp.exp(_filter(logits, filters, numbers, seen)))
