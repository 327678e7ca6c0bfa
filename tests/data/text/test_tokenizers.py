"""Tokenizers: GPT-2's against a plain one written from the paper, and each back to the text."""

import itertools
import json
import os
import pathlib
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.text import bpe as bpe_lib
from data.text import tokenizers
from data.text.bpe import byte_symbols
from tests.data.text import tiny_bpe
from tests.data.text.tiny_bpe import EOT, MERGES, TEXT

tiny = tiny_bpe.tiny  # a fixture

# -------- a plain GPT-2, to compare with --------

SHORT = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
SPACES = '\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000'
SPACES += ''.join(map(chr, range(0x2000, 0x200B)))


def kind(character: str) -> str:
  if character in SPACES:
    return ' '
  category = unicodedata.category(character)[0]
  return category if category in 'LN' else 'other'


def words(text: str) -> list[str]:
  """By hand what GPT-2's regular expression does: no \\p{L} in Python's own."""
  found, i = [], 0
  while i < len(text):
    j = next((i + len(x) for x in SHORT if text.startswith(x, i)), i)
    if j == i:
      first = i + 1 if text[i] == ' ' and text[i + 1 : i + 2].strip(SPACES) else i
      j = first
      while j < len(text) and kind(text[j]) == kind(text[first]):
        j += 1
      if kind(text[first]) == ' ' and j < len(text) and j - i > 1:
        j -= 1  # the last space belongs to the word behind it
    found.append(text[i:j])
    i = j
  return found


def merged(symbols: list[str], ranks: dict) -> list[str]:
  """Sennrich 2016: join the pair that was learnt first, wherever it stands; again and again."""
  while len(symbols) > 1:
    best = min(itertools.pairwise(symbols), key=lambda pair: ranks.get(pair, 1 << 30))
    if best not in ranks:
      break
    joined, i = [], 0
    while i < len(symbols):
      both = tuple(symbols[i : i + 2]) == best
      joined.append(''.join(best) if both else symbols[i])
      i += 1 + both
    symbols = joined
  return symbols


def plain(text: str, vocab: dict, merges: list[tuple[str, str]]) -> list[int]:
  symbol = {byte: character for character, byte in byte_symbols().items()}
  ranks = {pair: rank for rank, pair in enumerate(merges)}
  ids = []
  for number, part in enumerate(text.split(EOT)):
    ids += [vocab[EOT]] * (number > 0)
    for word in words(part):
      ids += [vocab[x] for x in merged([symbol[byte] for byte in word.encode()], ranks)]
  return ids


def texts(size: int = 40):
  known = st.sampled_from([*"hello wor'l12é\n\r\t ", EOT, '\n\n', '  ', 'hello', ' wor', "'ll"])
  anything = st.characters(exclude_categories=['Cs', 'Cn', 'Co'])
  return st.lists(known | anything, max_size=size).map(''.join)


@pytest.fixture(scope='module')
def published() -> pathlib.Path:
  if 'GPT2_BPE_DIR' not in os.environ:
    pytest.skip("GPT2_BPE_DIR is not set: a folder with GPT-2's vocabulary")
  return pathlib.Path(os.environ['GPT2_BPE_DIR'])


# -------- GPT-2's BPE --------


def test_each_byte_has_a_visible_character_of_its_own():
  table = byte_symbols()
  assert sorted(table.values()) == list(range(256)) and all(x.isprintable() for x in table)
  assert (table['A'], table['Ġ'], table['Ċ'], table['é']) == (65, 32, 10, 0xE9)


def test_the_merges_of_a_small_vocabulary(tiny):
  bpe = tokenizers.gpt2(tiny)
  number = json.loads((tiny / 'encoder.json').read_text())
  said = ['hello', 'Ġwor', 'l', 'd', 'ĊĊ', 'Ġ', 'he', "'ll"]
  assert bpe.encode("hello world\n\n he'll") == [number[x] for x in said]
  assert (bpe.vocab_size, bpe.eot, bpe.name) == (271, 270, 'bpe')
  assert bpe.encode('') == [] and bpe.decode([]) == ''
  assert bpe.encode(f'h{EOT}e') == [number['h'], 270, number['e']]


@settings(max_examples=150)
@given(texts())
@example(TEXT)
def test_a_small_vocabulary_against_a_plain_bpe(tiny, text):
  bpe = tokenizers.gpt2(tiny)
  vocab = json.loads((tiny / 'encoder.json').read_text())
  ids = bpe.encode(text)
  assert ids == plain(text, vocab, [tuple(x.split()) for x in MERGES])
  assert bpe.decode(ids) == text


@pytest.mark.long
def test_the_published_vocabulary(published):
  bpe = tokenizers.gpt2(published)
  assert (bpe.vocab_size, bpe.eot, bpe.name) == (50257, 50256, 'gpt2')
  assert bpe.encode('Hello world') == [15496, 995]
  merges = list(bpe.merges)

  @settings(max_examples=200)
  @given(texts())
  @example(TEXT)
  def check(text):
    ids = bpe.encode(text)
    assert ids == plain(text, bpe.vocab, merges) and bpe.decode(ids) == text

  check()


def test_shakespeare_has_the_tokens_that_nanogpt_counts(published):
  path = published.parent / 'tiny_shakespeare.txt'
  if not path.exists():
    pytest.skip('tiny_shakespeare.txt does not lie beside the vocabulary')
  text = path.read_bytes().decode()
  cut = int(len(text) * 0.9)
  train, held_out = tokenizers.gpt2(published).encode_many([text[:cut], text[cut:]])
  assert (len(train), len(held_out)) == (301966, 36059)
  assert tokenizers.characters(text).vocab_size == 65


@pytest.mark.parametrize('end', ['', '\n', '\n\n', ' ', '\n x'])
@pytest.mark.parametrize('every', [1, 50])
def test_long_texts_are_cut_where_it_changes_nothing(tiny, monkeypatch, every, end):
  monkeypatch.setattr(bpe_lib, 'CUT_EVERY', every)
  bpe = tokenizers.gpt2(tiny)
  lines = ["hello wor\nhello 'll", '', '  he\thello', 'hello\r', 'hello ', '\n', 'é\nhello']
  rng = np.random.default_rng(0)
  text = '\n'.join(lines[i] for i in rng.integers(len(lines), size=1000)) + end
  assert len(bpe_lib._pieces(text)) > 100
  whole = bpe._library.encode(text, add_special_tokens=False).ids
  assert bpe.encode(text) == whole and bpe.decode(whole) == text


def test_several_texts_are_encoded_as_each_alone(tiny):
  bpe = tokenizers.gpt2(tiny)
  several = ['hello', '', 'he\nhello world ' * 9000, 'é']
  assert [ids.tolist() for ids in bpe.encode_many(several)] == [bpe.encode(x) for x in several]


# -------- a BPE of one's own --------


def test_a_bpe_learns_what_is_frequent(tmp_path):
  texts = ['the cat and the dog and the cow\n' * 50, 'the end']
  bpe = tokenizers.train_bpe(texts, 270)
  assert bpe.vocab_size == 270 and {'Ġthe', 'Ġand'} <= bpe.vocab.keys()
  assert len(bpe.encode(' the')) == 1 and bpe.decode([bpe.eot]) == EOT
  assert tokenizers.train_bpe(texts, 270) == bpe
  bpe.save(tmp_path)
  assert tokenizers.load(tmp_path) == bpe
  with pytest.raises(ValueError, match='vocab_size=256: must be at least 257'):
    tokenizers.train_bpe(texts, 256)
  assert tokenizers.train_bpe(['ab'], 5000).vocab_size < 300


# -------- all of them --------


@pytest.fixture(scope='module')
def all_of_them(tiny):
  own = tokenizers.train_bpe(['hello world ' * 20], 265)
  return [tokenizers.Bytes(), tokenizers.gpt2(tiny), own]


@settings(max_examples=100)
@given(st.text(max_size=30))
@example('\x00\x1c\u2028\ufeff\U0010ffff')
def test_any_text_comes_back(all_of_them, text):
  for tokenizer in [*all_of_them, *([tokenizers.characters(text)] if text else [])]:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(np.array(ids, np.int32)) == text
  assert tokenizers.Bytes().encode(text) == list(text.encode())


@settings(max_examples=100)
@given(st.text(max_size=12), st.data())
def test_a_stream_never_shows_half_a_character(all_of_them, text, data):
  for tokenizer in all_of_them:
    ids = tokenizer.encode(text)
    cut = data.draw(st.integers(0, len(ids)))
    stream, shown = tokenizers.IncrementalDecoder(tokenizer), ''
    for part in (ids[:cut], *([i] for i in ids[cut:])):
      shown += stream.push(part)
      assert text.startswith(shown)
    assert shown == text and stream.end() == ''
    # Cut off within a character: held back, and in the end what `decode` says.
    stream = tokenizers.IncrementalDecoder(tokenizer)
    shown = stream.push(ids[:cut])
    assert text.startswith(shown) and shown + stream.end() == tokenizer.decode(ids[:cut])


def test_what_is_no_utf8_is_shown_as_such():
  stream = tokenizers.IncrementalDecoder(tokenizers.Bytes())
  assert stream.push([0xE2, 0x82]) == '' and stream.push([0x41]) == '\ufffdA'
  assert stream.push([0xE2]) + stream.end() == '\ufffd'


@pytest.mark.parametrize('kind', ['characters', 'bytes'])
def test_what_is_saved_is_loaded(tmp_path, kind, tiny):
  tokenizer = {'characters': tokenizers.characters(TEXT), 'bytes': tokenizers.Bytes()}[kind]
  tokenizer.save(tmp_path / 'new')
  again = tokenizers.load(tmp_path / 'new')
  assert again == tokenizer and again.encode(TEXT) == tokenizer.encode(TEXT)
  assert tokenizers.fingerprint(again) == tokenizers.fingerprint(tokenizer)
  tokenizers.gpt2(tiny).save(tmp_path / 'new')  # over it
  assert tokenizers.load(tmp_path / 'new') == tokenizers.gpt2(tiny)


@pytest.mark.parametrize(
  'content', ['{', '{}', '[]', '{"kind": "words"}', '{"kind": "characters"}']
)
def test_a_damaged_file_is_named(tmp_path, content):
  tokenizers.Bytes().save(tmp_path)
  next(tmp_path.iterdir()).write_text(content)
  with pytest.raises(ValueError, match=r'tokenizer_kind.json: not what save writes'):
    tokenizers.load(tmp_path)


def test_characters_are_numbered_by_code_point():
  tokenizer = tokenizers.characters('banana é\n')
  assert tokenizer.characters == '\n abné' and tokenizer.encode('né') == [4, 5]
  assert (tokenizer.vocab_size, tokenizer.eot) == (6, None)
  with pytest.raises(ValueError, match=r"'x' \(U\+0078\) at 3 of the text: not among the 6 char"):
    tokenizer.encode('banx')
  with pytest.raises(ValueError, match=r'U\+1F917'):
    tokenizer.encode('🤗')
  with pytest.raises(ValueError, match='at least one'):
    tokenizers.characters('')


def test_half_a_surrogate_pair_is_refused(all_of_them):
  for tokenizer in [*all_of_them, tokenizers.characters('ab')]:
    with pytest.raises(ValueError, match=r'surrogates not allowed|not among'):
      tokenizer.encode('ab\ud800')


def test_numbers_that_stand_for_nothing_are_refused(all_of_them):
  for tokenizer in [*all_of_them, tokenizers.characters('ab')]:
    size = tokenizer.vocab_size
    for wrong in (-1, size):
      with pytest.raises(
        ValueError, match=f'token {wrong}: must be at least 0 and less than {size}'
      ):
        tokenizer.decode([0, wrong])


def test_fingerprints_tell_tokenizers_apart(all_of_them, tiny):
  fewer = tokenizers.BPE({**tokenizers.gpt2(tiny).vocab}, tokenizers.gpt2(tiny).merges[:-1])
  several = [*all_of_them, fewer, tokenizers.characters('ab'), tokenizers.characters('abc')]
  assert len({tokenizers.fingerprint(x) for x in several}) == len(several)
