"""Beam search: the most likely targets of a batch of sources, by their log-probability.

All of it is compiled. The K best unfinished targets of each source go on by one piece at a time;
those that end are kept apart, the K best by log p / penalty(pieces) (Wu et al. 2016, arXiv
1609.08144, equation 14, without the coverage). A source is done when no unfinished target can come
to beat its K finished ones, or at its limit of pieces. A model is known by `Seq2Seq` alone.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import ops
from models.gpt.generation import NotFiniteError
from models.seq2seq.contract import BOS, EOS, PAD, Seq2Seq

NEVER = -1e30  # a score that nothing has; finite, since inf - inf is not a number
SMALLEST_CACHE = 16  # pieces; a cache that is full doubles


@dataclasses.dataclass(frozen=True)
class Beam:
  """How targets are searched.

  Attributes:
    beams: K, the unfinished targets that go on for each source; 1 is greedy.
    alpha: of the length penalty ((5 + pieces) / 6)^alpha; 0: the sum of log-probabilities decides.
    extra: a target has at most as many pieces as its source and these (Vaswani 2017, section 6.1).
    best: how many finished targets are wanted of each source, at most K.
  """

  beams: int = 4
  alpha: float = 0.6
  extra: int = 50
  best: int = 1

  def __post_init__(self):
    for name, value, holds, rule in (
      ('beams', self.beams, self.beams >= 1, 'must be at least 1'),
      ('alpha', self.alpha, 0 <= self.alpha <= 10, 'must be from 0 to 10'),
      ('extra', self.extra, self.extra >= 0, 'must be at least 0'),
      ('best', self.best, 1 <= self.best <= self.beams, f'must be from 1 to beams={self.beams}'),
    ):
      if not holds:
        raise ValueError(f'{name}={value}: {rule}')

  def penalty(self, pieces: Any) -> Any:
    """Returns what the log-probability of a target of so many pieces is divided by."""
    return ((5 + pieces) / 6) ** self.alpha


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SearchState:
  """The search of B sources, for targets of L pieces at most.

  Attributes:
    position: int32 `[]`, how many pieces each unfinished target has.
    live: int32 `[B, K, L]`, the unfinished targets, the best first.
    live_score: float32 `[B, K]`, their log-probabilities; NEVER for none.
    done: int32 `[B, best, L]`, the finished targets with their EOS, the best first.
    done_score: float32 `[B, best]`, log-probabilities over penalties; NEVER for none.
    going: bool `[B]`, whether an unfinished target may still become one of these.
    finite: bool `[B]`, whether all logits were.
  """

  position: Array
  live: Array
  live_score: Array
  done: Array
  done_score: Array
  going: Array
  finite: Array


class Found(NamedTuple):
  """What a search found.

  Attributes:
    targets: int32 `[B, best, L]`, the best first, PAD behind EOS; without an EOS where none came
      within the limit, in the first place alone.
    scores: float32 `[B, best]`, log-probabilities over penalties; -inf for a target that there
      is not.
  """

  targets: np.ndarray
  scores: np.ndarray


def search(model: Seq2Seq, variables: Any, source: Any, beam: Beam) -> Found:
  """Returns the best targets of sources int32 `[B, S]`.

  It is compiled once for a shape of `source`, a `beam` and each size of the cache that is needed:
  16, 32, 64, ... pieces.

  Args:
    model: a hashable module.
    variables: its variables.
    source: of which each row ends with EOS, and PAD behind it; a row of PAD alone fills up the
      batch, and nothing is found for it.
    beam: how to search.

  Raises:
    NotFiniteError: the network's logits are not finite.
  """
  most = _most(model, source, beam)
  size = min(SMALLEST_CACHE, most)
  search_on = functools.partial(_search_on, model, variables, beam=beam)
  memory, cache, state = _begin(model, variables, source, beam=beam, size=size)
  limits = np.minimum((np.asarray(source) != PAD).sum(1) + beam.extra, most)
  while True:
    cache, state = search_on(memory, cache, state, limits, size=size)
    if size == most or not jax.device_get(state.going).any():
      break
    size = min(2 * size, most)
    cache = _grow(model, variables, cache, size=size)
  return _found(jax.device_get(state), beam)


def _most(model: Seq2Seq, source: Any, beam: Beam) -> int:
  """Returns the most pieces that any target may have."""
  return min(source.shape[1] + beam.extra, model.block_size)


def _found(state: Any, beam: Beam) -> Found:
  if not state.finite.all():
    row = int(np.argmin(state.finite))
    raise NotFiniteError(f'the network gives source {row + 1} logits that are not finite')
  targets, scores = np.array(state.done), np.array(state.done_score)
  none = scores[:, 0] <= NEVER  # at its limit, a source without an end has what it came to
  targets[none, 0] = state.live[none, 0]
  pieces = (state.live[none, 0] != PAD).sum(1)
  scores[none, 0] = state.live_score[none, 0] / beam.penalty(pieces)
  return Found(targets, np.where(scores <= NEVER, -np.inf, scores))


# -------- the compiled parts --------


@functools.partial(jax.jit, static_argnames=('model', 'beam', 'size'))
def _begin(model, variables, source, *, beam, size):
  """Returns memory, an empty cache, and the state in which one target has no piece yet."""
  memory = model.apply(variables, source, method='encode')
  cache = model.apply(variables, memory, beam.beams, size, method='init_cache')
  B, K, L = len(source), beam.beams, _most(model, source, beam)
  scores = jnp.full((B, K), NEVER).at[:, 0].set(0)  # K equal targets would stay equal
  done = jnp.full((B, beam.best, L), PAD, jnp.int32)
  live = jnp.full((B, K, L), PAD, jnp.int32)
  never, going = jnp.full((B, beam.best), NEVER), (source != PAD).any(1)
  state = SearchState(jnp.int32(0), live, scores, done, never, going, jnp.ones(B, bool))
  return memory, cache, state


@functools.partial(jax.jit, static_argnames=('model', 'size'))
def _grow(model, variables, cache, *, size):
  return model.apply(variables, cache, size, method='grow_cache')


@functools.partial(
  jax.jit, static_argnames=('model', 'beam', 'size'), donate_argnames=('cache', 'state')
)
def _search_on(model, variables, memory, cache, state, limits, *, beam, size):
  """Goes on until no source does, or until the cache of `size` pieces is full."""

  def step(carry):
    cache, state = carry
    at = jnp.maximum(state.position - 1, 0)
    newest = lax.dynamic_index_in_dim(state.live, at, 2, keepdims=False)
    token = jnp.where(state.position == 0, BOS, newest)
    logits, cache = model.apply(variables, memory, cache, token, state.position, method='step')
    parents, state = _after(beam, limits, state, logits)
    return model.apply(variables, cache, parents, method='select'), state

  def going(carry):
    return (carry[1].position < size) & carry[1].going.any()

  return lax.while_loop(going, step, (cache, state))


def _after(
  beam: Beam, limits: Array, state: SearchState, logits: Array
) -> tuple[Array, SearchState]:
  """Returns which target each of the K best goes on from, int32 `[B, K]`, and the new state."""
  K, pieces = beam.beams, state.position + 1
  total = jax.nn.logsumexp(logits, axis=-1)  # not finite if a logit is NaN or inf
  scores, parents, newest = _candidates(state.live_score - total, logits, 2 * K)
  # At most K of 2 K end, one for each target, so that K go on. An end counts if it is among the K
  # best: with one beam, if it is the likeliest piece.
  ends, targets = newest == EOS, _extended(state, parents, newest)
  finished = jnp.where(ends, scores / beam.penalty(pieces), NEVER)[:, :K]
  done_score, done = _best(
    jnp.concatenate([state.done_score, finished], 1),
    jnp.concatenate([state.done, targets[:, :K]], 1),
    count=beam.best,
  )
  live_score, live, parents = _best(jnp.where(ends, NEVER, scores), targets, parents, count=K)
  # The most that the best of them can come to: at its limit, without another nat.
  bound = live_score[:, 0] / beam.penalty(limits)
  # One beam has nothing else to follow: its first end is its end.
  going = done_score[:, -1] <= NEVER if K == 1 else bound > done_score[:, -1]
  going &= state.going & (pieces < limits)
  finite = state.finite & (jnp.isfinite(total).all(-1) | ~state.going)
  new = SearchState(pieces, live, live_score, done, done_score, going, finite)
  # A source that is done stays as it is, whatever others are in its batch.
  same = {'position': new.position, 'going': new.going, 'finite': new.finite}
  kept = jax.tree.map(functools.partial(_where, state.going), new, state)
  return parents, dataclasses.replace(kept, **same)


def _candidates(known: Array, logits: Array, count: int) -> tuple[Array, Array, Array]:
  """Returns the best pieces to go on by: log-probabilities, parents and pieces, `[B, count]` each.

  Args:
    known: log-probabilities of K targets, less what normalises their logits, `[B, K]`.
    logits: of their next pieces, `[B, K, V]`.
    count: how many are returned.
  """
  V = logits.shape[-1]
  no_text = np.isin(np.arange(V), (PAD, BOS))[None, None]
  every = jnp.where(no_text, NEVER, jnp.maximum(known[..., None] + logits, NEVER))
  best, index = ops.top_k(every.reshape(len(every), -1), count)
  return best, index // V, index % V


def _extended(state: SearchState, parents: Array, newest: Array) -> Array:
  """Returns the targets `[B, C, L]` that go on from `parents` by a piece each."""
  targets = _take(state.live, parents)
  return lax.dynamic_update_slice(targets, newest[..., None], (0, 0, state.position))


def _best(scores: Array, *each: Array, count: int) -> list[Array]:
  """Returns the `count` largest scores `[B, C]`, and what belongs to them, `[B, C, ...]`."""
  scores, index = lax.top_k(scores, count)
  return [scores, *(_take(x, index) for x in each)]


def _take(x: Array, index: Array) -> Array:
  return jax.vmap(lambda x, index: x[index])(x, index)


def _where(rows: Array, new: Array, old: Array) -> Array:
  """Returns `new` in the rows that are true and else `old`; scalars are of no row."""
  return jnp.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old) if new.ndim else new
