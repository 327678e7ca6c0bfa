"""Damaged files of pairs are refused by a ValueError of one line, or every pair is what it says."""

import gzip
import shutil

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from data import splits
from data.text.parallel import datasets
from data.text.parallel.tokenizer import EOS, PieceTokenizer
from data.text.tokenizers import Bytes
from tests.data.text.parallel.small_pairs import sentences, small
from tests.fuzzing import fuzzed
from tests.mutated import mutated

PAIRS = sentences(12)
FILES = {
  'train.en': '\n'.join(a for a, _ in PAIRS) + '\n',
  'train.de': '\n'.join(b for _, b in PAIRS) + '\n',
  'val.tsv': '\n'.join(f'{a}\t{b}' for a, b in PAIRS) + '\n',
  'test.en.gz': 'one\r\ntwo\u2028three\r\n',
  'test.de.gz': 'eins\r\nzwei\r\n',
}


def packed(name, raw):
  return gzip.compress(raw, mtime=0) if name.endswith('.gz') else raw


@pytest.fixture(scope='module')
def cached(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_files_of_pairs(cached, tmp_path_factory, data):
  root = tmp_path_factory.mktemp('pairs')
  changed = data.draw(st.sampled_from(sorted(FILES)))
  for name, text in FILES.items():
    raw = packed(name, text.encode())
    (root / name).write_bytes(data.draw(mutated(raw)) if name == changed else raw)
  try:
    source = small(root, test_split='test')
  except ValueError as error:
    assert len(str(error).splitlines()) == 1
  else:
    for split in ('train', 'val', 'test'):
      check_lines(source, split)
    source.close()
  shutil.rmtree(root)


def check_lines(source, split):
  """Both sides have equally many lines, and each is what its tokens say."""
  sides = source.lines(split)
  assert len(sides[0]) == len(sides[1]) > 0
  for side, tokens in zip(sides, source._side_pair(split), strict=True):
    rows = np.arange(len(side))
    ids = tokens.read(rows, 4096)
    for line, row in zip(side, ids, strict=True):
      assert '\n' not in line and source.tokenizer.decode(row) == ' '.join(line.split())


@fuzzed
@hypothesis.given(text=st.text(), tail=st.lists(st.integers(-5, 300)))
def test_fuzz_every_text_comes_back(text, tail):
  try:
    text.encode()
  except UnicodeEncodeError:
    return
  tokenizer = PieceTokenizer(Bytes())
  assert tokenizer.decode([*tokenizer.encode(text), EOS, *tail]) == text


@fuzzed
@hypothesis.given(
  st.text(alphabet='abtrain.tsv,/~\0 -_:0', max_size=30) | st.from_regex(r'~\w{1,5}(,~\w)?')
)
def test_fuzz_names_of_sets(tmp_path_factory, name):
  root = str(tmp_path_factory.getbasetemp())
  try:
    found = datasets.load(name, ('en', 'de'), root)
  except ValueError as error:
    assert len(str(error).splitlines()) == 1
  else:
    splits.parse(found, 'train')
