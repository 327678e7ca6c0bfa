"""Beam search beside an exhaustive one, and what it promises of batches, limits and penalties."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.gpt.generation import NotFiniteError
from models.seq2seq import beam as beam_lib
from models.seq2seq.beam import Beam
from models.seq2seq.contract import EOS
from tests.models.seq2seq.small_seq2seq import sentences, small, start

V = 6  # three pieces of text, behind padding, beginning and end
MODEL = small(V, layers=1, heads=1, width=8)
VARIABLES = start(MODEL)
SOURCE = sentences((3, 2, 4), 4, V)


def exhaustive(row, limit, beam):
  """Scores and targets of the best of all targets of a source, by logits of whole targets."""
  every = [t for n in range(limit) for t in itertools.product(range(3, V), repeat=n)]
  targets = np.zeros((len(every), limit), np.int32)
  for place, text in zip(targets, every, strict=True):
    place[: len(text) + 1] = [*text, EOS]
  source = np.repeat(SOURCE[row : row + 1], len(every), 0)
  log_p = jax.nn.log_softmax(jax.jit(MODEL.apply)(VARIABLES, source, targets))
  each = np.take_along_axis(np.asarray(log_p), targets[..., None], 2)[..., 0] * (targets != 0)
  scores = each.sum(1) / ((5 + (targets != 0).sum(1)) / 6) ** beam.alpha
  order = np.argsort(-scores)[: beam.best]
  return scores[order], targets[order]


@pytest.mark.long
@pytest.mark.parametrize('alpha', [0.0, 0.6, 2.0])
def test_wide_enough_it_finds_what_an_exhaustive_search_finds(alpha):
  beam = Beam(beams=324, alpha=alpha, extra=1, best=5)  # 81 beginnings of four pieces, times four
  found = beam_lib.search(MODEL, VARIABLES, SOURCE, beam)
  for row in range(3):
    scores, targets = exhaustive(row, (SOURCE[row] != 0).sum() + 1, beam)
    np.testing.assert_array_equal(found.targets[row, :, : targets.shape[1]], targets)
    np.testing.assert_allclose(found.scores[row], scores, rtol=1e-5)


@pytest.mark.long
def test_one_beam_takes_the_likeliest_piece_each_time():
  found = beam_lib.search(MODEL, VARIABLES, SOURCE, Beam(beams=1, extra=4)).targets[:, 0]
  logits = jax.jit(MODEL.apply)
  texts, going = np.full((3, 8), 3, np.int32), np.ones(3, bool)
  for at in range(8):  # what stands behind a place has no part in it
    likeliest = np.asarray(logits(VARIABLES, SOURCE, texts))[:, at, 2:].argmax(-1) + 2
    going &= at < (SOURCE != 0).sum(1) + 4
    texts[:, at] = np.where(going, likeliest, 0)
    going &= likeliest != EOS
  np.testing.assert_array_equal(found, texts)


@pytest.mark.long
def test_a_source_is_translated_alone_as_in_a_batch():
  beam = Beam(beams=3, best=3, extra=20)
  together = beam_lib.search(MODEL, VARIABLES, SOURCE, beam)
  for row in range(3):
    alone = beam_lib.search(MODEL, VARIABLES, SOURCE[row : row + 1], beam)
    np.testing.assert_array_equal(alone.targets[0], together.targets[row])
    np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4)


class Endless:
  """A model whose likeliest piece is 3, and whose end comes with a chance of `chance`."""

  vocab_size, block_size = V, 64

  def __init__(self, chance, bad=False):
    self.chance, self.bad = chance, bad

  def apply(self, variables, *args, method):
    return getattr(self, method)(*args)

  def encode(self, source):
    return source

  def init_cache(self, memory, beams, length):
    return jnp.zeros((len(memory), beams))

  def grow_cache(self, cache, length):
    return cache

  def select(self, cache, parents):
    return cache

  def step(self, memory, cache, token, position):
    rest = (1 - self.chance) / 4
    p = jnp.array([0.0, rest, self.chance, 2 * rest, rest, 0.0])
    logits = jnp.log(jnp.maximum(p, 1e-9)) + (jnp.nan if self.bad else 0.0)
    return jnp.broadcast_to(logits, (*token.shape, V)), cache


def test_without_an_end_the_limit_of_each_source_ends_it():
  found = beam_lib.search(Endless(1e-9), {}, SOURCE, Beam(beams=1, extra=2))
  assert [(row != 0).sum() for row in found.targets[:, 0]] == [5, 4, 6]
  assert EOS not in found.targets and np.isfinite(found.scores).all()


def test_the_penalty_prefers_longer_targets():
  lengths = [
    (beam_lib.search(Endless(0.4), {}, SOURCE[:1], Beam(4, alpha, 30)).targets != 0).sum()
    for alpha in (0.0, 4.0)
  ]
  assert lengths[0] == 1 < lengths[1]


def test_one_beam_ends_where_the_end_is_likeliest_whatever_the_penalty():
  found = beam_lib.search(Endless(0.5), {}, SOURCE[:1], Beam(beams=1, alpha=4.0, extra=30))
  assert found.targets[0, 0].tolist() == [EOS] + [0] * 33
  assert (beam_lib.search(Endless(0.5), {}, SOURCE[:1], Beam(2, 4.0, 30)).targets != 0).sum() > 1


def test_a_row_of_padding_is_not_searched_for():
  source = np.concatenate([SOURCE, np.zeros((1, 4), np.int32)])
  found = beam_lib.search(Endless(0.4), {}, source, Beam(beams=2))
  assert not found.targets[3].any() and found.targets[:3, 0].any(1).all()


def test_logits_that_are_no_numbers_are_said():
  with pytest.raises(NotFiniteError, match='the network gives source 1 logits that are not finite'):
    beam_lib.search(Endless(0.4, bad=True), {}, SOURCE, Beam(beams=2))


@pytest.mark.parametrize(
  'options, message',
  [
    ({'beams': 0}, 'beams=0: must be at least 1'),
    ({'alpha': -1.0}, 'alpha=-1.0: must be from 0 to 10'),
    ({'alpha': float('nan')}, 'alpha=nan: must be from 0 to 10'),
    ({'extra': -1}, 'extra=-1: must be at least 0'),
    ({'beams': 2, 'best': 3}, 'best=3: must be from 1 to beams=2'),
  ],
)
def test_a_search_that_cannot_be_is_refused(options, message):
  with pytest.raises(ValueError, match=f'^{message}$'):
    Beam(**options)
