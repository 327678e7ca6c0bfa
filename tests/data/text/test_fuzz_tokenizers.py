"""A damaged folder of a tokenizer is refused by a ValueError of one line, or it still encodes."""

import contextlib
import json
import shutil

import hypothesis
import pytest
from hypothesis import strategies as st

from data.text import tokenizers
from data.text.tokenizer import UnknownTextError
from tests.data.text.tiny_bpe import MERGES, byte_symbols
from tests.fuzzing import fuzzed
from tests.mutated import mutated

TEXT = 'hello world\n<s> he said</s>'
SPECIAL = ['<s>', '</s>', '<mask>']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with all that a tokenizer can have; `PAIR` are the files without tokenizer.json."""
  root = tmp_path_factory.mktemp('whole')
  vocab = [*SPECIAL, *byte_symbols(), *(merge.replace(' ', '') for merge in MERGES)]
  (root / 'vocab.json').write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
  (root / 'merges.txt').write_text('\n'.join(['#version: 0.2', *MERGES, '']), 'utf-8')
  token = {'content': '<mask>', 'lstrip': True, 'special': True}
  beside = {
    'tokenizer_config': {'eos_token': '</s>', 'added_tokens_decoder': {'2': token}},
    'special_tokens_map': {'bos_token': '<s>', 'additional_special_tokens': ['<mask>']},
    'added_tokens': {'<x>': len(vocab)},
    'generation_config': {'eos_token_id': [1]},
    'config': {'eos_token_id': 1},
  }
  for name, content in beside.items():
    (root / f'{name}.json').write_text(json.dumps(content))
  tokenizers.load(root).save(root / 'again')
  shutil.copy(root / 'again' / 'tokenizer.json', root / 'tokenizer.json')
  shutil.rmtree(root / 'again')
  return root


def check(folder):
  try:
    found = tokenizers.load(folder)
  except ValueError as error:
    assert len(str(error).splitlines()) == 1
    return
  assert all(0 <= end < found.vocab_size for end in found.ends)
  with contextlib.suppress(UnknownTextError):
    back = found.decode(found.encode(TEXT))
    # A token that strips takes the white space beside it, another model's normalizer what it likes.
    assert found.name == 'huggingface' or ''.join(back.split()) == ''.join(TEXT.split())


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_tokenizer_folders(folder, tmp_path_factory, data):
  names = sorted(path.name for path in folder.iterdir())
  damaged = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
  root = tmp_path_factory.getbasetemp() / 'damaged'
  shutil.rmtree(root, ignore_errors=True)
  shutil.copytree(folder, root)
  for name in damaged:
    (root / name).write_bytes(data.draw(mutated((folder / name).read_bytes())))
  if 'tokenizer.json' not in damaged:
    (root / 'tokenizer.json').unlink()
  check(root)
