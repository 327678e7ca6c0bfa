"""Damaged files of words are refused by a ValueError of one line, or they are still read."""

import gzip
import logging

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data.text.words import questions, reading, vectors, vocabulary
from tests.fuzzing import fuzzed
from tests.mutated import mutated

WORDS = ['the', 'naïve', 'new_york', '15']
ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
TEXT = 'The cat sat\non the mat .\n\nNaïve new york 15\n' * 3
LISTS = {
  'analogies': b': family\nking man queen woman\n: gram1-x\ngood well bad badly\n',
  'similarities': b'word,other,score\nking,queen,8.5\ncat dog 7\n# none\nman\twoman\t8e0\n',
  'vocabulary': b'the 90\ncat 7\nna\xc3\xafve 7\nnew_york 2\n',
}


def one_line(function):
  """Returns what a reader of files returns; None if it refuses the file in one line."""
  logging.disable(logging.WARNING)
  try:
    return function()
  except ValueError as error:
    assert len(str(error).splitlines()) == 1
    return None
  finally:
    logging.disable(logging.NOTSET)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  return tmp_path_factory.mktemp('fuzz')


@pytest.mark.parametrize('binary', [False, True])
@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_vectors(place, binary, data):
  path = place / 'whole'
  vectors.write(path, WORDS, ROWS, binary=binary)
  path.write_bytes(data.draw(mutated(path.read_bytes())))
  found = one_line(lambda: vectors.read(path))
  if found is not None:
    words, rows = found
    assert len(words) == len(set(words)) == len(rows) > 0
    assert np.isfinite(rows).all()
    vectors.write(place / 'again', words, rows, binary=True)
    again, same = vectors.read(place / 'again')
    assert again == words
    np.testing.assert_array_equal(rows, same)


@pytest.mark.parametrize('kind', LISTS)
@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_lists_of_words(place, kind, data):
  path = place / vocabulary.FILE
  path.write_bytes(data.draw(mutated(LISTS[kind])))
  readers = {
    'analogies': lambda: questions.read_analogies(str(path)),
    'similarities': lambda: questions.read_similarities(str(path)),
    'vocabulary': lambda: vocabulary.load(place),
  }
  found = one_line(readers[kind])
  if kind == 'analogies' and found is not None:
    assert all(len(x) == 4 for section in found for x in section.questions)
  if kind == 'similarities' and found is not None:
    assert np.isfinite([x for _, _, x in found]).all()
  if kind == 'vocabulary' and found is not None:
    assert len(found.words) == len(found.counts) == len(set(found.words))


@pytest.mark.parametrize('packed', [False, True])
@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_texts(place, packed, data):
  path = place / ('text.gz' if packed else 'text')
  raw = TEXT.encode()
  path.write_bytes(data.draw(mutated(gzip.compress(raw, mtime=0) if packed else raw)))
  for how in reading.TOKENS:
    text = reading.find(str(path), '**/*', how, True)
    found = one_line(lambda text=text: vocabulary.count(text.pieces(), min_count=1))
    if found is not None and len(found.words) > 1:
      nodes, codes = found.huffman()
      assert nodes.shape == codes.shape == (len(found.words), nodes.shape[1])
      found.save(place)
      assert list(vocabulary.load(place).words) == list(found.words)
