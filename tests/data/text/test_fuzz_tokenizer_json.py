"""A damaged tokenizer.json of any kind is refused by a ValueError of one line, or it encodes."""

import contextlib

import hypothesis
import pytest
from hypothesis import strategies as st

from data.text import tokenizers
from data.text.tokenizer import UnknownTextError
from tests.data.text import small_tokenizers
from tests.fuzzing import fuzzed
from tests.mutated import mutated


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp('whole')
  for kind in small_tokenizers.KINDS:
    small_tokenizers.written(kind, root / kind)
  return root


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_tokenizer_json(folders, tmp_path_factory, data):
  kind = data.draw(st.sampled_from(small_tokenizers.KINDS))
  root = tmp_path_factory.getbasetemp() / 'damaged_json'
  root.mkdir(exist_ok=True)
  whole = (folders / kind / 'tokenizer.json').read_bytes()
  (root / 'tokenizer.json').write_bytes(data.draw(mutated(whole)))
  try:
    found = tokenizers.load(root)
  except ValueError as error:
    assert len(str(error).splitlines()) == 1
    return
  assert found.vocab_size < 1 << 21
  with contextlib.suppress(UnknownTextError):
    found.decode(found.encode('hello world\n 12'))
