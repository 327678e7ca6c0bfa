"""The rules of sampling: each against NumPy, their order, and the drawing by what they leave."""

import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from models.gpt import sampling as sampling_lib
from models.gpt.sampling import Sampling, filter_logits

B, V = 3, 12
# Few values, so that there are ties; many, so that there are none.
logit_rows = st.lists(
  st.one_of(st.integers(-3, 3).map(float), st.floats(-20, 20, width=32, allow_subnormal=False)),
  min_size=B * V,
  max_size=B * V,
).map(lambda x: np.asarray(x, np.float32).reshape(B, V))
quick = hypothesis.settings(max_examples=40)


def filtered(logits, seen=None, **kwargs):
  return np.asarray(filter_logits(jnp.asarray(logits), Sampling(**kwargs), seen))


def kept(logits, **kwargs):
  return np.isfinite(filtered(logits, **kwargs))


def softmax(x):
  weights = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True)


def ranks(row):
  """Indices from the largest on, lower ones first among equals."""
  return np.argsort(-row, kind='stable')


@quick
@hypothesis.given(logit_rows, st.sampled_from([1, 2, 5, V - 1, V, V + 2]))
def test_top_k_keeps_the_k_largest_and_of_equal_ones_the_lowest_ids(logits, k):
  for row, mask in zip(logits, kept(logits, top_k=k), strict=True):
    assert sorted(ranks(row)[:k]) == np.flatnonzero(mask).tolist()


def test_a_negative_zero_is_a_zero():
  assert kept(np.float32([[-0.0, 0.0]]), top_k=1).tolist() == [[True, False]]


@pytest.mark.long
@quick
@hypothesis.given(logit_rows, st.floats(1 / 64, 63 / 64, width=32))
def test_top_p_keeps_the_fewest_that_have_the_mass(logits, p):
  for row, mask in zip(logits, kept(logits, top_p=p), strict=True):
    order = ranks(np.exp(row - row.max()))  # as float32, in which tiny ones are equal
    mass = np.cumsum(softmax(row)[order])
    hypothesis.assume(np.abs(mass - p).min() > 1e-5)  # else rounding decides
    number = 1 + np.flatnonzero(mass >= p)[0]
    assert sorted(order[:number]) == np.flatnonzero(mask).tolist()


@quick
@hypothesis.given(logit_rows, st.floats(1 / 64, 1, width=32))
def test_min_p_keeps_a_share_of_the_most_likely(logits, p):
  chance = softmax(logits)
  ratio = chance / chance.max(-1, keepdims=True)
  hypothesis.assume((np.abs(ratio / p - 1) > 1e-5)[ratio < 1].all())
  np.testing.assert_array_equal(kept(logits, min_p=p), ratio >= p)


@quick
@hypothesis.given(logit_rows, st.floats(0.0625, 16, width=32))
def test_temperature_divides(logits, temperature):
  ours = softmax(filtered(logits, temperature=temperature))
  np.testing.assert_allclose(ours, softmax(logits / temperature), atol=1e-5)


@quick
@hypothesis.given(logit_rows, st.floats(0.25, 4, width=32), st.integers(0, 2**V - 1))
def test_repetition_divides_what_was_seen_and_multiplies_it_below_zero(logits, penalty, bits):
  seen = np.broadcast_to((bits >> np.arange(V)) & 1 == 1, (B, V))
  plain = np.where(logits > 0, logits / penalty, logits * penalty)
  ours = filtered(logits, seen, repetition_penalty=penalty)
  np.testing.assert_allclose(softmax(ours), softmax(np.where(seen, plain, logits)), atol=1e-5)


@quick
@hypothesis.given(logit_rows)
def test_temperature_0_keeps_the_first_of_the_largest(logits):
  mask = kept(logits, temperature=0.0, top_p=0.5)
  np.testing.assert_array_equal(mask, np.arange(V) == logits.argmax(-1)[:, None])


def test_rules_act_in_their_order_on_what_is_left():
  logits = np.log(np.asarray([[0.4, 0.3, 0.15, 0.1, 0.05]], np.float32))
  # Of the three that top-k leaves, two have 0.8 of the mass; of all five it takes three.
  assert kept(logits, top_p=0.8).sum() == 3
  assert kept(logits, top_k=3, top_p=0.8).sum() == 2
  # Hot, more have 0.4 of what the most likely has.
  assert kept(logits, min_p=0.4).sum() == 2
  assert kept(logits, min_p=0.4, temperature=2.0).sum() == 4


def test_no_temperature_overflows():
  logits = np.asarray([[1e4, 1e4 - 1, -1e4]], np.float32)
  np.testing.assert_allclose(softmax(filtered(logits, temperature=1e-6)), [[1, 0, 0]])


def test_tokens_are_drawn_in_proportion_to_their_weights():
  weights = np.asarray([0, 3, 0, 0, 1, 2, 0, 0, 0, 4, 0], np.float32)
  keys = jax.random.split(jax.random.key(5), 20_000)
  drawn = np.asarray(jax.vmap(sampling_lib._draw, (0, None))(keys, weights))
  counts = np.bincount(drawn, minlength=11)
  assert np.all(counts[weights == 0] == 0)
  np.testing.assert_allclose(counts / 20_000, weights / 10, atol=0.015)


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'temperature': -1.0}, r'sampling.temperature=-1.0: must be a number >= 0'),
    ({'temperature': float('nan')}, r'sampling.temperature=nan'),
    ({'top_k': -1}, r'sampling.top_k=-1: must be an integer >= 0'),
    ({'top_k': 1.5}, r'sampling.top_k=1.5: must be an integer'),
    ({'top_k': float('inf')}, r'sampling.top_k=inf: must be an integer'),
    ({'repetition_penalty': 1e-38}, r'repetition_penalty=1e-38: must be from 1e-30 to 1e30'),
    ({'top_p': 0.0}, r'sampling.top_p=0.0: must be in \(0, 1\]'),
    ({'min_p': 1.1}, r'sampling.min_p=1.1: must be in \[0, 1\]'),
    ({'repetition_penalty': 0.0}, r'sampling.repetition_penalty=0.0: must be a number > 0'),
  ],
)
def test_sampling_refuses_what_makes_no_sense(kwargs, message):
  with pytest.raises(ValueError, match=message):
    Sampling(**kwargs)


EXTREMES = [
  *({'top_p': x} for x in (1e-8, 1e-45, 1.2e-38, 1 - 1e-9)),
  *({'min_p': x} for x in (1.0, 1e-30, 1e-45)),
  *({'temperature': x} for x in (0.0, 1e-45, 1e-8, 1e30, 3e38)),
  *({'repetition_penalty': x} for x in (1e-30, 1e30)),
  *({'top_k': x} for x in (1, 10**30)),
]
LOGITS = jnp.array([[1, 3, 2], [5, 5, -1], [0, -1e4, -1e4], [-3, -1e30, -2]], jnp.float32)


@pytest.mark.parametrize('extreme', EXTREMES, ids=str)
def test_at_every_extreme_the_likeliest_token_stays(extreme):
  unseen = jnp.zeros(LOGITS.shape, bool)
  kept = filter_logits(LOGITS, Sampling(**extreme), seen=unseen)
  assert not bool(jnp.isnan(kept).any())
  assert np.isfinite(kept[np.arange(4), [1, 0, 0, 2]]).all()


@pytest.mark.long
def test_extremes_together_leave_a_token_and_it_is_drawn():
  seen = jnp.array(np.arange(3) < 2)[None].repeat(4, 0)
  keys = jax.random.split(jax.random.key(0), 4)
  for one, other in itertools.combinations(EXTREMES, 2):
    sampling = Sampling(**{**one, **other})
    left = np.asarray(filter_logits(LOGITS, sampling, seen))
    drawn = sampling_lib.sample_tokens(LOGITS, keys, sampling.filters, sampling.numbers, seen)
    assert np.isfinite(left[np.arange(4), drawn]).all(), (one, other)


@pytest.mark.parametrize(
  'absorbed',
  [
    {'top_p': 1e-60},
    {'temperature': 1e-60},
    {'temperature': 1e60},
    {'min_p': 1e-60},
    {'repetition_penalty': 1e60},
    {'repetition_penalty': 1e-60},
  ],
  ids=str,
)
def test_what_float32_cannot_hold_is_refused(absorbed):
  with pytest.raises(ValueError, match='in float32, in which it is used'):
    Sampling(**absorbed)
