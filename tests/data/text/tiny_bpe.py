"""A BPE of a handful of merges, as the files that OpenAI published for GPT-2."""

import json
import pathlib

import pytest

from data.text.bpe import byte_symbols

EOT = '<|endoftext|>'
MERGES = [
  'h e',
  'l l',
  'he ll',
  'hell o',
  'Ġ w',
  'o r',
  'Ġw or',
  'Ċ Ċ',
  'Ġ Ġ',
  "' ll",
  'Ã ©',
  '1 2',
]
MERGES += ['č Ċ', 'Ġ Ċ']
TEXT = "hello world\n\n  he'll  say 1212 ĠĊ\r\n\té日本🤗 hello"


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> pathlib.Path:
  """OpenAI's two files for a handful of merges."""
  folder = tmp_path_factory.mktemp('tiny')
  vocab = [*byte_symbols(), *(merge.replace(' ', '') for merge in MERGES), EOT]
  (folder / 'encoder.json').write_text(json.dumps({x: i for i, x in enumerate(vocab)}))
  (folder / 'vocab.bpe').write_text('\n'.join(['#version: 0.2', *MERGES, '']), 'utf-8')
  return folder
