"""Special tokens of a Hugging Face folder: which there are, and which of them end a text."""

import json

import pytest

from data.text import tokenizers
from tests.data.text.tiny_bpe import MERGES, byte_symbols

RESERVED = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']  # RoBERTa's, numbers 0 to 4
VOCAB = [*RESERVED, *byte_symbols(), *(merge.replace(' ', '') for merge in MERGES)]
TEXT = 'he</s> <pad>ll<mask>'
PIECES = {'<pad>': 1, '</s>': 2, '<mask>': 4}


@pytest.fixture
def folder(tmp_path):
  """A vocabulary and merges whose special tokens nothing declares."""
  (tmp_path / 'vocab.json').write_text(json.dumps({token: i for i, token in enumerate(VOCAB)}))
  (tmp_path / 'merges.txt').write_text('\n'.join(['#version: 0.2', *MERGES, '']), 'utf-8')
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'gpt2'}))
  return tmp_path


def write(folder, files):
  for name, content in files.items():
    (folder / f'{name}.json').write_text(json.dumps(content))


TOKEN = {'content': '</s>', 'lstrip': False, 'rstrip': False, 'special': True}
ROLES = {'eos_token': '</s>', 'pad_token': '<pad>', 'mask_token': '<mask>'}
CASES = {
  'nothing': ({}, (2,), ''),
  'roles': ({'special_tokens_map': ROLES}, (2,), '</s> <pad> <mask>'),
  'a role with flags': ({'special_tokens_map': {'eos_token': TOKEN}}, (2,), '</s>'),
  'config': ({'tokenizer_config': {'eos_token': '</s>', 'add_bos_token': True}}, (2,), '</s>'),
  'the map overrules': (
    {'tokenizer_config': {'eos_token': '</s>'}, 'special_tokens_map': {'eos_token': '<pad>'}},
    (1,),
    '<pad>',
  ),
  'class': ({'tokenizer_config': {'tokenizer_class': 'RobertaTokenizerFast'}}, (2,), str(PIECES)),
  'numbered': (
    {'tokenizer_config': {'eos_token': '</s>', 'added_tokens_decoder': {'2': TOKEN}}},
    (2,),
    '</s>',
  ),
  'listed': ({'tokenizer_config': {'additional_special_tokens': ['<mask>']}}, (2,), '<mask>'),
  'named': ({'tokenizer_config': {'extra_special_tokens': {'a': '<mask>'}}}, (2,), '<mask>'),
}


@pytest.mark.parametrize(('files', 'ends', 'special'), CASES.values(), ids=CASES)
def test_declared_tokens_are_found_in_a_text(folder, files, ends, special):
  write(folder, files)
  bpe = tokenizers.load(folder)
  assert bpe.ends == ends and bpe.eot == ends[0]
  found = {i for i in bpe.encode(TEXT) if i < len(RESERVED)}
  assert found == {number for token, number in PIECES.items() if token in special}
  assert bpe.decode(bpe.encode(TEXT)) == TEXT
  bpe.save(folder / 'again')
  assert tokenizers.load(folder / 'again') == bpe


@pytest.mark.parametrize(('files', 'ends', 'special'), CASES.values(), ids=CASES)
def test_transformers_finds_the_same_tokens(folder, files, ends, special):
  transformers = pytest.importorskip('transformers')
  write(folder, files)
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  ours = tokenizers.load(folder)
  for text in (TEXT, 'he <mask> he'):
    assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
  assert theirs.eos_token_id == ours.eot or 'eos' not in str(files)


@pytest.mark.parametrize(
  ('files', 'ends'),
  [
    ({'config': {'eos_token_id': 4}}, (4,)),
    ({'config': {'eos_token_id': 4}, 'generation_config': {'eos_token_id': [3, 2]}}, (3, 2)),
    ({'config': {'eos_token_id': 4}, 'special_tokens_map': {'eos_token': '</s>'}}, (2, 4)),
    ({'config': {'eos_token_id': 50256}}, (2,)),  # of a larger vocabulary
    ({'config': {'eos_token_id': None}}, (2,)),
  ],
)
def test_the_models_end_of_text_counts(folder, files, ends):
  write(folder, files)
  bpe = tokenizers.load(folder)
  assert bpe.ends == ends
  bpe.save(folder / 'again')
  assert tokenizers.load(folder / 'again') == bpe


DEEP = '[' * 100_000 + ']' * 100_000


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('config', {'eos_token_id': 'x'}, "eos_token_id 'x': must be a number"),
    ('tokenizer_config', {'eos_token': 5}, 'eos_token 5: must be a token'),
    ('tokenizer_config', {'added_tokens_decoder': 5}, 'added tokens must be a list .*, got 5'),
    ('tokenizer_config', {'added_tokens_decoder': {'x': {}}}, 'must have an id and a content'),
    ('added_tokens', 5, 'must be a JSON object, got 5'),
    ('added_tokens', {'<x>': '5'}, 'must have an id and a content'),
    ('added_tokens', {'<x>': 7}, "'.*' and '<x>' both have the number 7"),
    ('added_tokens', {'<s>': 7}, "'.*' and '<s>' both have the number 7"),
    ('tokenizer', DEEP, 'tokenizer.json: not JSON'),
    ('tokenizer', {'model': 5}, 'model must be a JSON object, got 5'),
    ('tokenizer', {'pre_tokenizer': 'x'}, "pre_tokenizer must be a JSON object, got 'x'"),
    ('vocab', {'a': 2**63}, "token 'a': number 9223372036854775808 must be less than 1,048,576"),
    ('vocab', {'a': True}, 'has no numbered vocabulary'),
    ('vocab', {'a': 1, 'b': 1}, "'a' and 'b' both have the number 1"),
    ('vocab', {'\ud800': 0}, 'surrogates not allowed'),
  ],
)
def test_what_a_file_says_wrongly_is_one_line(folder, name, content, message):
  text = content if isinstance(content, str) else json.dumps(content)
  (folder / f'{name}.json').write_text(text)
  if name == 'vocab':
    (folder / 'merges.txt').write_text('')
  with pytest.raises(ValueError, match=message) as caught:
    tokenizers.load(folder)
  assert str(folder) in str(caught.value) and '\n' not in str(caught.value)


def test_holes_in_a_vocabulary_are_no_tokens(folder):
  vocab = {token: 2 * i for i, token in enumerate(VOCAB)}
  (folder / 'vocab.json').write_text(json.dumps(vocab))
  bpe = tokenizers.load(folder)
  assert bpe.vocab_size == 2 * len(VOCAB) - 1 and bpe.decode(bpe.encode('hello he')) == 'hello he'
  assert bpe.decode([1, 3]) == ''


@pytest.mark.parametrize(
  ('name', 'kind'),
  [('vocab.txt', 'a WordPiece vocabulary'), ('spiece.model', 'a SentencePiece model')],
)
def test_another_kind_of_tokenizer_is_named(tmp_path, name, kind):
  (tmp_path / name).write_text('[PAD]')
  assert tokenizers.holds_tokenizer(tmp_path)
  with pytest.raises(ValueError, match=f'holds {name}, {kind}.*, but no GPT-2 tokenizer'):
    tokenizers.load(tmp_path)
