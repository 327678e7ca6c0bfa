"""Tokenizers of SmolLM, Qwen and Llama: the ids of their library, and the bytes of each token."""

import json

import pytest

from data.text import choose_tokenizer, evaluation, tokenizers
from tests.data.text import small_tokenizers
from train.tasks.language.sample import first_tokens

TEXT = 'hello world\n\n  1212 it\'s é日本🤗\thello </s><s> Å "x"'


@pytest.mark.parametrize('kind', small_tokenizers.KINDS)
def test_ids_and_texts_are_the_librarys(kind, tmp_path):
  library = small_tokenizers.written(kind, tmp_path)
  found = tokenizers.load(tmp_path)
  ids = found.encode(TEXT)
  assert ids == library.encode(TEXT, add_special_tokens=False).ids
  # Llama 2's puts a space in front of a text, and of what follows a special token.
  given = ' ' + TEXT.replace('<s>', '<s> ') if kind == 'llama2' else TEXT
  assert found.decode(ids) == given
  assert [found.decode([i]) for i in found.ends] == ['</s>']
  assert found.bos == (library.token_to_id('<s>') if kind.startswith('llama') else None)
  assert found.vocab_size == library.get_vocab_size()


def test_what_the_model_wants_in_front_comes_before_texts(tmp_path):
  library = small_tokenizers.written('llama2', tmp_path / 'llama2')
  begin = library.token_to_id('<s>')
  found = tokenizers.load(tmp_path / 'llama2')
  assert first_tokens(found, 'hello') == library.encode('hello').ids
  (tmp_path / 'text').write_text('hello world')
  stream, _ = evaluation.read_text(str(tmp_path / 'text'), found)
  assert stream.tolist() == library.encode('hello world').ids
  question = evaluation.Question('file, line 1', 'hello', (' world', ' lo'), 0)
  choices = evaluation.encode_choices(question, found, 64)
  assert [choice.tokens.tolist() for choice in choices] == [
    library.encode(text).ids for text in ('hello world', 'hello lo')
  ]
  assert found.bos == begin and choices[0].num_context == 2
  # Without a post-processor nothing is wanted, though a space is put in front.
  edited(tmp_path / 'llama2', lambda spec: spec.update(post_processor=None))
  assert tokenizers.load(tmp_path / 'llama2').bos is None


def test_characters_come_byte_by_byte(tmp_path):
  small_tokenizers.written('llama2', tmp_path)
  found = tokenizers.load(tmp_path)
  decoder = tokenizers.IncrementalDecoder(found)
  pieces = [decoder.push([i]) for i in found.encode('日')]
  assert pieces == [' ', '', '', '日']


@pytest.mark.parametrize('kind', small_tokenizers.KINDS)
def test_a_run_keeps_it(kind, tmp_path):
  small_tokenizers.written(kind, tmp_path / 'in')
  found = tokenizers.load(tmp_path / 'in')
  found.save(tmp_path / 'kept')
  kept = choose_tokenizer.load_kept('huggingface', str(tmp_path / 'kept'))
  assert kept == found == choose_tokenizer.without_text(f'huggingface:{tmp_path / "in"}')
  assert tokenizers.fingerprint(kept) == tokenizers.fingerprint(found)
  assert kept.bos == found.bos


def test_transformers_reads_what_is_saved(tmp_path):
  transformers = pytest.importorskip('transformers')
  library = small_tokenizers.written('llama3', tmp_path / 'in')
  assert tokenizers.load(tmp_path / 'in').save_for_transformers(tmp_path / 'out')
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'out')
  assert theirs(TEXT).input_ids == library.encode(TEXT).ids
  assert theirs.eos_token == '</s>' and theirs.bos_token == '<s>'


def edited(folder, edit):
  path = folder / 'tokenizer.json'
  spec = json.loads(path.read_text())
  edit(spec)
  path.write_text(json.dumps(spec))


@pytest.mark.parametrize(
  ('kind', 'edit', 'said'),
  [
    ('llama2', lambda x: x['model']['vocab'].pop('<0x41>'), "1 of .* are missing, as '<0x41>'"),
    ('llama2', lambda x: x['model'].update(byte_fallback=False), 'neither of bytes .* no other'),
    ('qwen', lambda x: x['model']['merges'].append(['q', '?!']), 'tokenizer.json: .*out of voc'),
    ('qwen', lambda x: x['pre_tokenizer'].update(type='Sentence'), 'tokenizer.json: '),
    ('qwen', lambda x: x['model']['vocab'].update({'zz': 2**30}), r'must be less than 1,048,576'),
  ],
)
def test_what_is_damaged_is_refused_in_one_line(kind, edit, said, tmp_path):
  small_tokenizers.written(kind, tmp_path)
  edited(tmp_path, edit)
  with pytest.raises(ValueError, match=said) as error:
    tokenizers.load(tmp_path)
  assert '\n' not in str(error.value)
