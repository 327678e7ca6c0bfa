"""Batches of pairs: what is in one, on any devices, after a restart, in several processes."""

import collections
import logging

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from data.text.parallel import buckets
from data.text.parallel.source import ParallelMetadata, ParallelText
from data.text.parallel.tokenizer import BOS, EOS, PAD
from tests.data.processes import HalfOf
from tests.data.text.parallel import small_pairs
from tests.data.text.parallel.small_pairs import sentences, small, write_pairs

cache, folder = small_pairs.cache, small_pairs.folder  # fixtures


def sharding(devices: int = 1) -> NamedSharding:
  auto = (AxisType.Auto,)
  mesh = jax.make_mesh((devices,), ('data',), axis_types=auto, devices=jax.devices()[:devices])
  return NamedSharding(mesh, PartitionSpec('data'))


def steps(source, wanted) -> list[dict]:
  return [jax.tree.map(np.asarray, source.next((), step)[1]) for step in wanted]


def test_a_batch_depends_on_seed_and_step_alone(folder):
  """After a restart, backwards, twice, on another number of devices: always the same."""
  data, again = small(folder), small(folder)
  batches = steps(data.train_source(5, sharding()), range(30))
  wanted = (17, 4, 4, 29)
  for step, batch in zip(wanted, steps(again.train_source(5, sharding(8)), wanted), strict=True):
    jax.tree.map(np.testing.assert_array_equal, batch, batches[step])
  other = steps(data.train_source(6, sharding()), range(30))
  assert any(
    a['index'].tolist() != b['index'].tolist() for a, b in zip(batches, other, strict=True)
  )
  data.close()
  again.close()


def test_what_a_batch_is_made_of(folder):
  data = small(folder)
  pairs, places = sentences(100), collections.Counter()
  for batch in steps(data.train_source(0, sharding(8)), range(20)):
    rows, length = batch['source'].shape
    assert rows * length <= 512 and rows % 8 == 0 and batch['mask'].tolist() == [1.0] * rows
    places[length] += 1
    for name, side in (('source', 0), ('target', 1)):
      assert batch[name].dtype == np.int32 and batch[name].shape == (rows, length)
      for number, ids in zip(batch['index'], batch[name], strict=True):
        end = ids.tolist().index(EOS)
        assert data.tokenizer.decode(ids) == pairs[number][side]
        assert BOS not in ids and (ids[end + 1 :] == PAD).all() and (ids[:end] > EOS).all()
    longest = np.maximum(*((batch[name] != PAD).sum(1) for name in ('source', 'target')))
    assert longest.max() <= length and length in (16, 24, 64)
    assert longest.min() > {16: 0, 24: 16, 64: 24}[length]  # none would fit into a shorter bucket
  assert set(places) == {16, 24, 64}
  data.close()


def test_many_epochs_read_every_pair_as_often_as_the_others(folder):
  data = small(folder)
  order = buckets.BucketOrder(3, data._train_buckets)
  rows = [int(row) for step in range(400) for row in order.rows(step)]
  counts = np.bincount(rows, minlength=100)
  assert counts.max() - counts.min() <= 3 and counts.min() > 40
  first = [len(order.rows(step)) for step in range(30)]
  assert first not in (sorted(first), sorted(first)[::-1])  # the buckets are mixed
  data.close()


def test_a_set_smaller_than_its_batches_still_fills_them(folder):
  write_pairs(folder, 'train', sentences(3))
  data = small(folder)
  for batch in steps(data.train_source(0, sharding()), range(5)):
    assert batch['mask'].all() and set(batch['index'].tolist()) <= {0, 1, 2}
  data.close()


@pytest.mark.parametrize('devices', [1, 8])
def test_an_evaluation_reads_every_pair_once(folder, devices):
  data = small(folder)
  batches = data.eval_batches('val', sharding(devices))
  for _ in range(2):
    found = [jax.tree.map(np.asarray, batch) for batch in batches]
    assert len(found) == len(batches) and all(len(batch['index']) == 8 for batch in found)
    index = np.concatenate([batch['index'] for batch in found])
    mask = np.concatenate([batch['mask'] for batch in found])
    assert sorted(index[mask > 0].tolist()) == list(range(10)) and (index[mask == 0] == -1).all()
  data.close()


def test_a_process_reads_only_its_rows_and_sees_those_of_the_whole(folder):
  data, whole = small(folder), sharding(8)
  rows = buckets.BucketOrder(0, data._train_buckets).rows(2)
  loader = data._loader('train', HalfOf(whole, jax.devices()[4:8]))
  half = loader._read(rows[len(rows) // 2 :], loader._length(rows))
  batch = steps(data.train_source(0, whole), [2])[0]
  for name, values in half.items():
    np.testing.assert_array_equal(values, batch[name][len(rows) // 2 :])
  data.close()


def test_what_is_too_long_is_cut_in_evaluations_and_said(folder, caplog):
  write_pairs(folder, 'val', [('long ' * 30, 'kurz'), *sentences(3)])
  data = small(folder)
  with caplog.at_level(logging.WARNING):
    found = [jax.tree.map(np.asarray, batch) for batch in data.eval_batches('val', sharding())]
  assert 'pairs cut at data.block_size=64 pieces: 1 (number 1)' in caplog.text
  row = next(batch['source'][batch['index'] == 0] for batch in found if 0 in batch['index'])[0]
  assert row[-1] == EOS and data.tokenizer.decode(row) == ('long ' * 30)[:62]
  data.close()


# -------- text --------


def test_odd_spaces_are_made_plain_in_training_and_stay_in_references(folder):
  odd = ('\u00a0two\u2009 spaces ', ' zwei\tLeer\u00a0zeichen.')
  for split in ('train', 'val'):
    write_pairs(folder, split, [odd, *sentences(9)])
  data = small(folder)
  assert [side[0] for side in data.lines('val')] == list(odd)
  found = [jax.tree.map(np.asarray, batch) for batch in data.eval_batches('val', sharding())]
  batch, row = next(
    (batch, batch['index'].tolist().index(0)) for batch in found if 0 in batch['index']
  )
  texts = [data.tokenizer.decode(batch[name][row]) for name in ('source', 'target')]
  assert texts == ['two spaces', 'zwei Leer zeichen.']
  data.close()


TEXTS = [
  '',
  ' ',
  'a',
  ' a  b ',
  'Hut, t.',
  "l’eau d'or",
  '</s> <pad> <|endoftext|>',
  '日本\u3000語\n\t🙂',
]


@pytest.mark.parametrize('tokenizer', ['bytes', 'bpe:400'])
def test_every_text_comes_back_unchanged(folder, tokenizer):
  data = small(folder, tokenizer=tokenizer)
  for text in TEXTS:
    ids = data.tokenizer.encode(text)
    assert min(ids) > EOS and data.tokenizer.decode([*ids, EOS, 77, 78]) == text
  assert data.tokenizer.decode([PAD, BOS, data.vocab_size - 1]) == ''
  data.close()


def test_the_joint_vocabulary_is_of_both_sides_of_the_training_split_alone(folder):
  write_pairs(folder, 'val', [('qqqqqqqqqq qqqqqqqqqq', 'yyyyyyyyyy yyyyyyyyyy')] * 9)
  data = small(folder, tokenizer='bpe:400')
  pieces = [data.tokenizer.pieces.to_bytes([i]) for i in range(data.tokenizer.pieces.vocab_size)]
  assert b' sieben' in pieces and b' sie' in pieces  # German, English
  assert not [piece for piece in pieces if b'qq' in piece or b'yy' in piece]
  assert data.vocab_size <= 400 and data.vocab_size % 8 == 0
  # Punctuation is no part of a word, which would be another with it than without.
  assert not [piece for piece in pieces if len(piece) > 1 and piece.endswith(b'.')]
  data.close()


def test_a_run_keeps_its_tokenizer_and_needs_no_pairs_to_translate(folder, tmp_path):
  kept = str(tmp_path / 'run' / 'tokenizer')
  data = small(folder, tokenizer='bpe:400', folder=kept)
  data.train_source(0, sharding())
  ids = data.tokenizer.encode('sieben')
  data.close()
  alone = small(tmp_path / 'gone', tokenizer='bpe:400', folder=kept, read=False)
  assert alone.tokenizer.encode('sieben') == ids and alone.vocab_size == data.vocab_size
  alone.close()
  with pytest.raises(ValueError, match='keeps another one'):
    small(folder, tokenizer='bytes', folder=kept)


def test_fingerprints_tell_other_pairs(folder):
  first = small(folder)
  write_pairs(folder, 'val', sentences(10, 101))
  second = small(folder)
  assert first.fingerprints()['train'] == second.fingerprints()['train']
  assert first.fingerprints()['val'] != second.fingerprints()['val']
  first.close()
  second.close()


# -------- settings --------


def test_settings_that_cannot_be(folder):
  for options, message in {
    ('tokenizer', 'characters'): "data.tokenizer='characters': unknown; choices: bpe:SIZE",
    ('tokenizer', 'bpe:259'): 'a SIZE of at least 260',
    ('batch_tokens', 511): 'data.batch_tokens=511: must be at least 512',
    ('eval_split', 'tset'): "split 'tset': not in this set; choices: test, train, val",
    ('test_split', 'tset'): "split 'tset': not in this set",
    ('buckets', (16, -1)): r'data.buckets=-1: must be at least 2',
    ('eval_batch_size', 0): 'data.eval_batch_size=0: must be at least 1',
  }.items():
    with pytest.raises(ValueError, match=message):
      small(folder, **dict([options]))
  data = small(folder, batch_size=4)
  with pytest.raises(ValueError, match=r'data.batch_size=4: must be divisible by the 8 parts'):
    data.train_source(0, sharding(8))
  data.close()


def test_metadata_reads_nothing():
  given = {'tokenizer': 'bpe:32000', 'block_size': 50, 'batch_tokens': 4000, 'batch_size': 16}
  found = ParallelText.metadata('wmt14_translate/fr-en', 'en', 'fr', **given, buckets=(20,))
  assert isinstance(found, ParallelMetadata) and found.vocab_size == 32_000
  _, batch = found.train_source(0, sharding()).trace({})
  assert found.shape == (80, 50) == batch['source'].shape == batch['target'].shape
