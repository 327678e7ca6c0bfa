"""Folders of a tokenizer: every layout is read, and one that is damaged is named."""

import json
import shutil

import pytest

from data.text import tokenizers
from tests.data.text import tiny_bpe
from tests.data.text.tiny_bpe import EOT, TEXT

tiny = tiny_bpe.tiny  # a fixture


def as_strings(folder):
  """An older tokenizer.json: merges as 'a b'."""
  spec = json.loads((folder / 'tokenizer.json').read_text())
  spec['model']['merges'] = [' '.join(pair) for pair in spec['model']['merges']]
  (folder / 'tokenizer.json').write_text(json.dumps(spec))


def keep(*names):
  def change(folder):
    for path in folder.iterdir():
      if path.name not in names:
        path.unlink()

  return change


@pytest.mark.parametrize(
  'change',
  [keep('tokenizer.json'), keep('vocab.json', 'merges.txt'), as_strings],
  ids=['json', 'pair', 'strings'],
)
def test_every_layout_is_the_same_tokenizer(tiny, tmp_path, change):
  bpe = tokenizers.gpt2(tiny)
  bpe.save(tmp_path)
  change(tmp_path)
  again = tokenizers.load(tmp_path)
  assert again == bpe and again.encode(TEXT) == bpe.encode(TEXT)
  assert tokenizers.fingerprint(again) == tokenizers.fingerprint(bpe)


def test_what_is_saved_is_a_folder_for_transformers(tiny, tmp_path):
  transformers = pytest.importorskip('transformers')
  bpe = tokenizers.gpt2(tiny)
  bpe.save(tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert theirs.encode(TEXT + EOT) == bpe.encode(TEXT + EOT)
  assert theirs.eos_token_id == bpe.eot and len(theirs) == bpe.vocab_size
  theirs.save_pretrained(tmp_path / 'theirs')
  assert tokenizers.load(tmp_path / 'theirs').encode(TEXT + EOT) == bpe.encode(TEXT + EOT)


def test_tokens_that_were_added_later(tiny, tmp_path):
  tokenizers.gpt2(tiny).save(tmp_path)
  keep('vocab.json', 'merges.txt')(tmp_path)
  (tmp_path / 'added_tokens.json').write_text(json.dumps({'<pad>': 271, '<é>': 272}))
  bpe = tokenizers.load(tmp_path)
  assert bpe.vocab_size == 273 and bpe.encode('he<é><pad>')[-2:] == [272, 271]
  assert bpe.decode(bpe.encode('he<é><pad>')) == 'he<é><pad>'
  (tmp_path / 'added_tokens.json').write_text(json.dumps({'<pad>': 300}))
  with pytest.raises(ValueError, match="'<pad>': its number 300 leaves a gap"):
    tokenizers.load(tmp_path).encode('he')


def test_a_space_in_front_is_honoured(tiny, tmp_path):
  tokenizers.gpt2(tiny).save(tmp_path)
  config = json.loads((tmp_path / 'tokenizer_config.json').read_text())
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps({**config, 'add_prefix_space': True}))
  keep('vocab.json', 'merges.txt', 'tokenizer_config.json')(tmp_path)
  bpe = tokenizers.load(tmp_path)
  assert bpe.decode(bpe.encode('world')) == ' world'
  bpe.save(tmp_path)
  assert tokenizers.load(tmp_path) == bpe


def cut_short(name, share=0.5):
  def change(folder):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])

  return change


def first_lines(name, count, end=''):
  def change(folder):
    lines = (folder / name).read_text().splitlines()
    (folder / name).write_text('\n'.join(lines[:count]) + end)

  return change


def setting(name, value):
  def change(folder):
    spec = json.loads((folder / 'tokenizer.json').read_text())
    place = spec
    *path, last = name.split('.')
    for key in path:
      place = place[key]
    place[last] = value
    (folder / 'tokenizer.json').write_text(json.dumps(spec))

  return change


def both(*changes):
  return lambda folder: [change(folder) for change in changes]


PAIR = keep('vocab.json', 'merges.txt')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (keep(), r'holds no GPT-2 tokenizer; must have tokenizer.json, or vocab.json and'),
    (keep('vocab.json'), 'holds vocab.json but no merges.txt'),
    (keep('merges.txt'), 'holds merges.txt but no vocab.json'),
    (cut_short('tokenizer.json'), 'tokenizer.json: .*cut short'),
    (both(PAIR, cut_short('vocab.json')), 'vocab.json: .*cut short'),
    (both(PAIR, first_lines('merges.txt', 5)), r'merges.txt: no merge makes 10 of the 271 tokens'),
    (both(PAIR, first_lines('merges.txt', 5, '\nhel')), "merge 'hel': must be two tokens"),
    (setting('model.type', 'Unigram'), "model.type is 'Unigram'; GPT-2 has 'BPE'"),
    (setting('model.vocab', []), 'has no numbered vocabulary and merges'),
    (setting('model.vocab', {'a': 'x'}), 'has no numbered vocabulary and merges'),
    (setting('model.merges', [['h', 'o']]), "makes 'ho', which is not in the vocabulary"),
    (setting('model.merges', ['h']), "merge 'h': must be two tokens"),
    (setting('added_tokens', [{'id': 3}]), "added token {'id': 3}: must have an id and a content"),
  ],
)
def test_a_wrong_or_damaged_folder_is_one_clear_line(tiny, tmp_path, change, message):
  tokenizers.gpt2(tiny).save(tmp_path)
  change(tmp_path)
  with pytest.raises(ValueError, match=message) as caught:
    tokenizers.load(tmp_path)
  assert str(tmp_path) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (setting('pre_tokenizer.use_regex', False), 'pre_tokenizer.use_regex is False'),
    (setting('normalizer', {'type': 'NFC'}), 'normalizer is {'),
    (setting('model.byte_fallback', True), 'model.byte_fallback is True'),
  ],
)
def test_another_models_tokenizer_is_not_gpt2s(tiny, tmp_path, change, message):
  tokenizers.gpt2(tiny).save(tmp_path)
  change(tmp_path)
  assert tokenizers.load(tmp_path).name == 'huggingface'
  with pytest.raises(ValueError, match=message):
    tokenizers.gpt2(tmp_path)


def test_a_vocabulary_without_some_bytes_loses_nothing_in_silence(tiny, tmp_path):
  vocab = json.loads((tiny / 'encoder.json').read_text())
  del vocab['z']
  shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
  (tmp_path / 'encoder.json').write_text(json.dumps(vocab))
  bpe = tokenizers.load(tmp_path)
  assert bpe.decode(bpe.encode('hello')) == 'hello'
  with pytest.raises(ValueError, match=r"character 'z' \(U\+007A\) at 2 of the text"):
    bpe.encode('hez')
