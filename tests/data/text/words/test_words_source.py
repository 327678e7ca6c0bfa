"""Batches of words: every word once an epoch, a function of seed and step; kept with a run."""

import numpy as np
import pytest
from jax.sharding import PartitionSpec

from data.text.words import corpus
from data.text.words.source import WordData, WordMetadata
from train import mesh as mesh_lib


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def text(tmp_path):
  rng, path = np.random.default_rng(0), tmp_path / 'text.txt'
  lines = (' '.join(f'w{i}' for i in rng.integers(20, size=n)) for n in rng.integers(1, 9, 50))
  path.write_text('\n'.join(lines) + '\n')
  return path


def data(text, **options):
  return WordData(str(text), **{'min_count': 1, 'chunk': 16, 'batch_size': 8, **options})


def source(found, seed=0):
  return found.train_source(seed, mesh_lib.batch_sharding(mesh_lib.make_mesh()))


def batches(found, steps, seed=0):
  train = source(found, seed)
  return [
    {name: np.asarray(x) for name, x in train.next((), step)[1].items()} for step in range(steps)
  ]


def test_an_epoch_has_every_word_once_with_its_sentence(text):
  found = data(text, sample=0.0)
  size = -(-len(found.corpus.stream) // 16)
  assert found.epoch == -(-size // 8)
  seen = {}
  for batch in batches(found, found.epoch):
    for i, words, sentences in zip(batch['index'], batch['words'], batch['sentences'], strict=True):
      seen.setdefault(int(i), (words[sentences >= 0], sentences[sentences >= 0]))
  assert sorted(seen) == list(range(size))
  stream = np.asarray(found.corpus.stream)
  together = np.concatenate([seen[i][0] for i in range(size)])
  np.testing.assert_array_equal(together, stream[stream != corpus.END])
  first = stream[:16]
  np.testing.assert_array_equal(seen[0][1], np.cumsum(first == corpus.END)[first != corpus.END])


def test_a_batch_is_a_function_of_seed_and_step(text):
  some = batches(data(text), 5)
  again = source(data(text)).next((), 4)[1]
  for name, value in some[4].items():
    np.testing.assert_array_equal(value, again[name])
  other = batches(data(text), 5, seed=1)
  assert any((a['words'] != b['words']).any() for a, b in zip(some, other, strict=True))


def test_frequent_words_are_left_out_and_another_few_each_time(text):
  found = data(text, sample=1e-3)
  whole = sum(x['words'].size for x in batches(data(text, sample=0.0), 3))
  left = [(x['sentences'] >= 0).sum() for x in batches(found, 3 * found.epoch)]
  assert sum(left[:3]) < 0.6 * whole
  epochs = np.array(left).reshape(3, -1).sum(1)
  assert len(set(epochs.tolist())) > 1


def test_the_vocabulary_is_kept_with_the_run_which_then_needs_no_text(text, tmp_path):
  folder = str(tmp_path / 'run' / 'tokenizer')
  first = data(text, folder=folder)
  source(first)
  text.unlink()
  again = data(text, folder=folder, read=False)
  assert list(again.vocabulary.words) == list(first.vocabulary.words)
  assert again.fingerprints() == {}


def test_another_text_is_refused_where_a_run_has_begun(text, tmp_path):
  folder = str(tmp_path / 'run' / 'tokenizer')
  source(data(text, folder=folder))
  text.write_text('other words stand here now\n')
  with pytest.raises(ValueError, match=r'has 5 words, and others than the 20 that this run began'):
    data(text, folder=folder)


def test_a_text_is_read_once_and_then_found_in_the_cache(text, monkeypatch):
  first = data(text)
  monkeypatch.setattr(corpus, '_write', None)
  again = data(text)
  np.testing.assert_array_equal(first.corpus.stream, again.corpus.stream)
  assert first.fingerprints() == again.fingerprints()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'min_count': 900}, r'fewer than two different words are there data\.min_count=900 times'),
    ({'sample': 2.0}, r'data\.sample=2\.0: must be a frequency from 0'),
    ({'words': 'tokens'}, r"data\.words='tokens': unknown; choices: spaces, letters"),
    ({'chunk': 0}, r'data\.chunk=0: must be at least 1'),
  ],
)
def test_settings_that_do_not_fit_are_refused(text, options, message):
  with pytest.raises(ValueError, match=message):
    data(text, **options)


def test_a_program_can_be_built_without_the_text():
  found = WordData.metadata('nowhere/english.txt.gz', chunk=32, batch_size=16)
  assert isinstance(found, WordMetadata)
  mesh = mesh_lib.make_mesh()
  _, batch = found.train_source(0, mesh_lib.batch_sharding(mesh)).trace({})
  assert batch['words'].shape == (16, 32)
  assert batch['words'].sharding.spec == PartitionSpec(('data', 'fsdp'))
  assert len(found.vocabulary.words) == found.vocab_size == 60_143
