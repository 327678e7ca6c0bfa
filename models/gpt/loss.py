"""Logits over the vocabulary, and their cross-entropy without ever holding all of them.

A chunk of positions at a time: with a vocabulary of 50,000 the logits of a whole batch can take
more memory than the network. The gradient is computed with the loss, in the same pass.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from models import ops
from models.axes import mesh_size, over_devices, vary_alike
from models.gpt import vocabulary


def logits(hidden: Array, head: Array, softcap: float = 0.0) -> Array:
  """Returns float32 logits `[B, T, V]`, capped as Gemma 2's are (arXiv 2408.00118).

  Args:
    hidden: activations `[B, T, D]`.
    head: `[V, D]`.
    softcap: logits become `softcap * tanh(logits / softcap)`; 0: they stay as they are.
  """
  rows, head = hidden.reshape(-1, hidden.shape[-1]), head.astype(hidden.dtype)
  if hidden.shape[-2] == 1:  # one new token of each sequence
    y = ops.dense_transposed(rows, head, jnp.float32)
  else:
    y = lax.dot_general(rows, head, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
  y = softcap * jnp.tanh(y / softcap) if softcap else y
  return y.reshape(*hidden.shape[:-1], -1)


def chunked_cross_entropy(
  hidden: Array,
  head: Array,
  targets: Array,
  weights: Array,
  chunk: int = 0,
  softcap: float = 0.0,
  vocab: int | None = None,
) -> tuple[Array, Array]:
  """Returns the weighted sum of the targets' nats, and the sum of the weights, float32 scalars.

  Where a gradient is wanted it is computed with the loss, so that logits are neither kept nor
  computed twice.

  Args:
    hidden: activations `[B, T, D]`.
    head: `[V, D]`.
    targets: int32 `[B, T]`.
    weights: `[B, T]`, which get no gradient.
    chunk: at how many positions of each row logits exist at once on a device, `[B, chunk, V]`; 0:
      at all. A chunk has all rows, so that a batch stays on the devices that hold it.
    softcap: see `logits`.
    vocab: how many of the head's V rows are tokens; None: all. The others get no probability.

  Raises:
    ValueError: `chunk` is negative.
  """
  scoring = _scoring(head, targets, chunk, softcap, vocab)
  return _sums(scoring, head, hidden, targets, weights)[::2]


def smoothed_cross_entropy(
  hidden: Array, head: Array, targets: Array, weights: Array, smoothing: float, chunk: int = 0
) -> tuple[Array, Array, Array]:
  """Returns weighted sums: the loss with smoothed labels, the nats without, and of the weights.

  A target has 1 - smoothing of the probability, and all V tokens share the rest evenly (Szegedy et
  al. 2016, arXiv 1512.00567, section 7). Only the first sum has a gradient. Its least value is not
  0 but the entropy of the smoothed label, which is why nats are reported beside it.

  Args:
    hidden: activations `[B, T, D]`.
    head: `[V, D]`.
    targets: int32 `[B, T]`.
    weights: `[B, T]`, which get no gradient.
    smoothing: in [0, 1).
    chunk: see `chunked_cross_entropy`.
  """
  scoring = _scoring(head, targets, chunk)._replace(smoothing=smoothing)
  return _sums(scoring, head, hidden, targets, weights)


def _scoring(head, targets, chunk, softcap=0.0, vocab=None):
  if chunk < 0:
    raise ValueError(f'chunk={chunk}: a number of positions, or 0 for all')
  over = vocabulary.split(head, targets)
  vocab = None if vocab == head.shape[0] else vocab
  own = targets.shape[1] // mesh_size(*over.length)  # positions of a device
  return Scoring(min(chunk, own) or own, softcap, vocab, over)


def _sums(scoring, head, hidden, targets, weights):
  weights = lax.stop_gradient(weights.astype(jnp.float32))
  head, hidden, weights = vary_alike(head, hidden, weights)
  loss, nats = _cross_entropy(scoring, head, hidden, targets, weights)
  return loss, lax.stop_gradient(nats), weights.sum()


class Scoring(NamedTuple):
  """How scores are computed from a head.

  Attributes:
    chunk: at how many positions of each row at a time.
    softcap: see `logits`.
    vocab: how many of the head's rows are tokens; None: all.
    over: which mesh axes split the head; a function of one device then sees its part.
    smoothing: see `smoothed_cross_entropy`.
  """

  chunk: int
  softcap: float
  vocab: int | None
  over: vocabulary.TableSplit
  smoothing: float = 0.0


def in_chunks(x: Array, chunk: int) -> Array:
  """Returns `[B, T, ...]` as `[T / chunk, B, chunk, ...]`, padded with zeros."""
  fill = [(0, 0), (0, -x.shape[1] % chunk)] + [(0, 0)] * (x.ndim - 2)
  x = jnp.pad(x, fill)
  return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)


def _from_chunks(x: Array, shape: tuple[int, ...]) -> Array:
  """Undoes `in_chunks`: returns `[B, T, ...]`."""
  return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *shape[2:])[:, : shape[1]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(scoring, head, *rows):
  def own(head, *rows):
    head = vocabulary.gather_width(scoring.over, head.astype(rows[0].dtype))
    chunks = [in_chunks(x, scoring.chunk) for x in rows]
    return _summed(scoring, _over_chunks(functools.partial(_nats, scoring, head), chunks)[0])

  whole = PartitionSpec()
  return _on_devices(scoring, own, (whole, whole))(head, *rows)


def _cross_entropy_forward(scoring, head, *rows):
  def own(head, *rows):
    gathered = vocabulary.gather_width(scoring.over, head.astype(rows[0].dtype))
    function = functools.partial(_nats_and_gradients, scoring, gathered)
    (sums, dhead), dhidden = _over_chunks(function, [in_chunks(x, scoring.chunk) for x in rows])
    # Once, not with each chunk: of the head over the batch, of hidden over the head's rows.
    dhead = vocabulary.sum_gradients(scoring.over, dhead)
    dhidden = lax.psum(_from_chunks(dhidden, rows[0].shape), scoring.over.rows)
    return _summed(scoring, sums), dhead, dhidden

  over, whole = scoring.over, PartitionSpec()
  out_specs = (whole, whole), over.table, over.tokens
  sums, *saved = _on_devices(scoring, own, out_specs)(head, *rows)
  return sums, (*saved, rows[2])


def _cross_entropy_backward(_, saved, dsums):
  dhead, dhidden, weights = saved
  dloss, _ = dsums  # `_sums` lets no gradient through the nats
  return dhead * dloss, (dhidden * dloss).astype(dhidden.dtype), None, jnp.zeros_like(weights)


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def _on_devices(scoring, function, out_specs):
  """Returns a function of the head and of three arrays of rows, of each device's parts of them."""
  over = scoring.over
  if over == vocabulary.WHOLE:
    return function
  return over_devices(function, (over.table, *[over.tokens] * 3), out_specs)


def _summed(scoring, sums):
  return lax.psum(sums, scoring.over.batch + scoring.over.length + scoring.over.rows)


def _over_chunks(function, chunks):
  """Maps `function(*chunk) -> (sums, out)` over axis 0; adds the sums, stacks the outs."""
  # The first chunk is apart: it gives the sums their types, and is often the only one.
  sums, out = function(*(x[0] for x in chunks))
  outs = jax.tree.map(lambda x: x[None], out)
  if len(chunks[0]) == 1:
    return sums, outs

  def step(sums, chunk):
    more, out = function(*chunk)
    return jax.tree.map(jnp.add, sums, more), out

  sums, others = lax.scan(step, sums, tuple(x[1:] for x in chunks))
  return sums, jax.tree.map(lambda *own: jnp.concatenate(own), outs, others)


def _nats(scoring, head, hidden, targets, weights):
  scores = _of_tokens(scoring, logits(hidden, head, scoring.softcap))
  return _weighted_nats(scoring, scores, targets, weights)[0], ()


def _row_numbers(scoring, scores):
  """Returns which row of the whole head each of scores `[..., V]` is of."""
  rows = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
  axes = scoring.over.rows
  return rows + lax.axis_index(axes) * scores.shape[-1] if axes else rows


def _of_tokens(scoring, scores):
  """Masks scores `[..., V]` of the head's rows that stand for no token."""
  if scoring.vocab is None:
    return scores
  return jnp.where(_row_numbers(scoring, scores) < scoring.vocab, scores, -jnp.inf)


def _weighted_nats(scoring, scores, targets, weights):
  """Returns the weighted sums of losses and nats, and the log partition sums `[B, T, 1]`.

  Where devices share the rows, both are a device's share, of which the sum is meant.
  """
  log_sum = _log_sum(scoring, scores)
  if scoring.over.rows:
    is_target = targets[..., None] == _row_numbers(scoring, scores)
    at_target = jnp.where(is_target, scores, 0).sum(-1)
    share = log_sum[..., 0] / lax.axis_size(scoring.over.rows)
  else:
    at_target = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    share = log_sum[..., 0]
  nats = (weights * (share - at_target)).sum()
  if not scoring.smoothing:
    return (nats, nats), log_sum
  # -(1 - e) log p(target) - e mean(log p), in scores: the log partition sum is in it once.
  label = (1 - scoring.smoothing) * at_target + _uniform(scoring, scores) * scores.sum(-1)
  return ((weights * (share - label)).sum(), nats), log_sum


def _log_sum(scoring, scores):
  axes = scoring.over.rows
  if not axes:
    return jax.nn.logsumexp(scores, axis=-1, keepdims=True)
  largest = lax.pmax(scores.max(-1, keepdims=True), axes)
  return largest + jnp.log(lax.psum(jnp.exp(scores - largest).sum(-1, keepdims=True), axes))


def _uniform(scoring, scores):
  """Returns what a smoothed label gives to each of all tokens."""
  axes = scoring.over.rows
  return scoring.smoothing / (scores.shape[-1] * (lax.axis_size(axes) if axes else 1))


def _nats_and_gradients(scoring, head, hidden, targets, weights):
  """Returns (((loss, nats), d loss / d head), d loss / d hidden); products in hidden's dtype."""
  capped = logits(hidden, head, scoring.softcap)
  scores = _of_tokens(scoring, capped)
  sums, log_sum = _weighted_nats(scoring, scores, targets, weights)
  label = targets[..., None] == _row_numbers(scoring, scores)
  if scoring.smoothing:
    label = (1 - scoring.smoothing) * label + _uniform(scoring, scores)
  dscores = weights[..., None] * (jnp.exp(scores - log_sum) - label)
  if scoring.softcap:
    dscores = dscores * (1 - jnp.square(capped / scoring.softcap))
  d = dscores.astype(hidden.dtype)
  dhead = jnp.einsum('btv,btd->vd', d, hidden, preferred_element_type=jnp.float32)
  return (sums, dhead), jnp.einsum('btv,vd->btd', d, head.astype(d.dtype))
