"""Text as tokens: what is in a set, in the cache, and what goes wrong."""

import gzip
import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from data.text import corpus, datasets, files, tokenizers
from data.text.source import TextData, TextMetadata
from tests.data.text import small_texts
from tests.data.text.small_texts import EOT, STORY

cache, story, library = small_texts.cache, small_texts.story, small_texts.library  # fixtures


def documents(texts: datasets.TextSplit) -> list[str]:
  return list(texts.read(range(texts.size)))


# -------- sets --------


def test_a_file_is_cut_by_characters(story):
  splits = datasets.load(story)
  [train], [held_out] = documents(splits['train']), documents(splits['validation'])
  assert train + held_out == STORY and len(train) == int(len(STORY) * 0.9)
  [part] = documents(datasets.load(story, val_fraction=0.5)['train'])
  assert part == STORY[: len(STORY) // 2]


def test_the_files_of_a_folder_are_spread_over_the_splits(library, tmp_path):
  splits = datasets.load(library)
  held_out = [pathlib.Path(x).stem for x in splits['validation'].files]
  assert held_out == ['11', '13']  # the tenth and the last, which is in the folder within
  names = [name for split in splits.values() for name in split.files]
  assert len(names) == len(set(names)) == 20
  assert documents(splits['validation']) == ['l' * 110, 'n' * 130]
  assert splits['train'].size == 18 and len(documents(splits['train'])) == 17  # one is empty
  (tmp_path / 'library' / '.hidden').write_text('x')
  assert datasets.load(library)['train'].files == splits['train'].files
  deep = datasets.load(library, pattern='deep/*.txt', val_fraction=0.5)
  assert [documents(x) for x in deep.values()] == [['d' * 30, 'n' * 130], ['e' * 40]]


@pytest.mark.parametrize('share', [0.001, 0.3, 0.999])
def test_each_split_of_a_folder_has_a_file(library, share):
  sizes = [split.size for split in datasets.load(library, val_fraction=share).values()]
  assert sum(sizes) == 20 and min(sizes) >= 1
  assert sizes[1] == pytest.approx(20 * share, abs=1)


def test_a_packed_file_in_documents(tmp_path):
  path = tmp_path / 'several.txt.gz'
  path.write_bytes(gzip.compress('one\n\ntwo é\n\n\n\nthree\r\n'.encode()))
  splits = datasets.load(str(path), separator='\n\n', val_fraction=0.2)
  assert documents(splits['train']) == ['one', 'two é', 'th']
  assert documents(splits['validation']) == ['ree\r\n']


def test_the_source_of_the_interpreter():
  splits = datasets.load('python')
  train, held_out = (set(splits[name].files) for name in ('train', 'validation'))
  assert not train & held_out
  assert len(held_out) == (len(train) + len(held_out)) // 10
  assert os.path.realpath(gzip.__file__) in map(os.path.realpath, train | held_out)
  assert not any('/test' in name.partition('lib')[2] for name in train | held_out)
  if sys.version_info[:3] == (3, 11, 7):  # the size that is stated
    sizes = [os.path.getsize(name) for name in train | held_out]
    assert (len(sizes), sum(sizes)) == (608, 9_946_901)


@pytest.mark.parametrize(
  ('dataset', 'message'),
  [
    ('nowhere.txt', "'nowhere.txt': no such file or folder; choices: python, a file, a folder"),
    ('./nowhere', 'no such file or folder'),
    ('nowhere', 'not found in .*; choices there: python, a file, a folder'),
    ('no where', "write 'NAME', 'NAME/CONFIG'"),
  ],
)
def test_a_set_that_is_not_there(dataset, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    TextData(dataset, str(tmp_path))


def test_files_that_are_no_text(tmp_path):
  path = tmp_path / 'a.txt'
  for content, message in [
    (b'ab\xff', 'a.txt: byte 0xff at 2 is not UTF-8'),
    (b'', 'holds no text'),
  ]:
    path.write_bytes(content)
    for tokenizer in ('bytes', 'characters'):
      with pytest.raises(ValueError, match=message):
        TextData(str(path), tokenizer=tokenizer)
  (tmp_path / 'b.gz').write_bytes(gzip.compress(b'text' * 99)[:20])
  with pytest.raises(ValueError, match=r'b.gz: cannot be read'):
    TextData(str(tmp_path / 'b.gz'))
  with pytest.raises(ValueError, match=r"has no files like '\*.md'"):
    TextData(str(tmp_path), pattern='*.md')


# -------- TFDS --------


@pytest.fixture(scope='module')
def prepared(tmp_path_factory) -> str:
  """'tales' with a text and a title, 'pairs' with two texts that are not named text."""
  root = tmp_path_factory.mktemp('tfds')

  def write(set_name, names):
    class Builder(tfds.core.GeneratorBasedBuilder):
      VERSION = tfds.core.Version('1.0.0')
      name = set_name
      url_infos = {}  # nothing is downloaded

      def _info(self):
        features = tfds.features.FeaturesDict({x: tfds.features.Text() for x in names})
        return tfds.core.DatasetInfo(builder=self, features=features)

      def _split_generators(self, dl_manager):
        return {'train': self._generate_examples(20), 'test': self._generate_examples(4)}

      def _generate_examples(self, count):
        for i in range(count):
          yield i, {x: f'{x} {i} of {count} é' for x in names}

    Builder(data_dir=root, file_format='array_record').download_and_prepare()

  with registered.skip_registration():
    write('tales', ['title', 'text'])
    write('pairs', ['source', 'target'])
  return str(root)


def test_a_tfds_set_by_name(prepared):
  splits = datasets.load('tales', prepared)
  assert sorted(documents(splits['test'])) == [f'text {i} of 4 é' for i in range(4)]
  data = TextData('tales', prepared, eval_split='train[90%:]+test', block_size=8)
  assert data.tokens('train').counts['documents'] == 20
  both = [*list(splits['train'].read(range(18, 20))), *documents(splits['test'])]
  assert data.tokens('train[90%:]+test').counts['characters'] == len(''.join(both))
  ids = data.tokens('train[90%:]+test').stream
  assert data.tokenizer.decode(ids) == ''.join(both)


def test_what_tfds_cannot_give_is_said(prepared):
  with pytest.raises(ValueError, match="split 'validation': not in this set; choices: test, train"):
    TextData('tales', prepared)
  with pytest.raises(ValueError, match=r'its features are source: Text, target: Text'):
    TextData('pairs', prepared)


# -------- tokens and their cache --------


def test_documents_stand_between_ends(library):
  data = TextData(library, block_size=8, eval_split='train[:5]')
  tokens = data.tokens('train[:5]')  # the first of them is empty
  texts = ['b' * 10, 'c' * 20, 'f' * 50, 'g' * 60]
  assert tokens.stream.tolist() == [EOT, *(x for t in texts for x in [*t.encode(), EOT])]
  assert tokens.stream.dtype == np.uint16 and isinstance(tokens.stream, np.memmap)
  for text, first, stop in zip(texts, *tokens.spans, strict=True):
    assert tokens.stream[first:stop].tolist() == [EOT, *text.encode(), EOT]
  counts = {'documents': 4, 'characters': 140, 'bytes': 140, 'words': 4, 'tokens': 140}
  assert tokens.counts == counts


def test_characters_follow_each_other(library):
  data = TextData(library, tokenizer='characters', block_size=8)
  assert data.vocab_size == 19 and 'a' not in data.tokenizer.characters
  tokens = data.tokens('validation')
  assert data.tokenizer.decode(tokens.stream) == 'l' * 110 + 'n' * 130
  for text, first, stop in zip(['l' * 110, 'n' * 130], *tokens.spans, strict=True):
    assert data.tokenizer.decode(tokens.stream[first:stop]) == text


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path):
  path = tmp_path / 'all.txt'
  path.write_text(''.join(chr(x) for x in range(0x20, 0x12000) if not 0xD800 <= x < 0xE000))
  data = TextData(str(path), tokenizer='characters')
  assert data.tokens('train').stream.dtype == np.uint32
  assert data.tokens('train').stream[0xD000] == 0xD000


def test_a_bpe_is_learnt_from_the_training_split_alone(library):
  data = TextData(library, tokenizer='bpe:300', block_size=8)
  assert data.tokenizer.name == 'bpe' and {'tt', 'tttt'} <= data.tokenizer.vocab.keys()
  assert 'll' not in data.tokenizer.vocab and 'nn' not in data.tokenizer.vocab
  assert data.tokenizer.decode(data.tokens('validation').stream).count('l') == 110


@pytest.mark.parametrize('tokenizer', ['bytes', 'characters', 'bpe:270'])
def test_texts_are_encoded_once_until_they_change(story, monkeypatch, tokenizer):
  first = TextData(story, tokenizer=tokenizer)
  with monkeypatch.context() as patch:
    patch.setattr(files, 'read', lambda path: pytest.fail('the text is read again'))
    again = TextData(story, tokenizer=tokenizer)
    assert again.tokenizer == first.tokenizer
    np.testing.assert_array_equal(again.tokens('train').stream, first.tokens('train').stream)
    assert again.tokens('train').counts == first.tokens('train').counts
  pathlib.Path(story).write_text(STORY.replace('sheep', 'goats'))
  changed = TextData(story, tokenizer=tokenizer)
  assert 'goats' in changed.tokenizer.decode(changed.tokens('train').stream)
  half = TextData(story, tokenizer=tokenizer, val_fraction=0.5, block_size=16)
  assert half.tokens('train').counts['words'] < first.tokens('train').counts['words'] - 80


@pytest.mark.parametrize('name', ['tokens.bin', 'begins.npy', 'tokens.json', 'tokenizer_kind.json'])
@pytest.mark.parametrize('damage', ['gone', 'short', 'junk', 'bit'])
def test_a_damaged_cache_is_made_again(story, cache, name, damage):
  expected = np.array(TextData(story, tokenizer='characters').tokens('train').stream)
  files = list(cache.glob(f'*/{name}'))
  assert files
  for path in files:
    content = path.read_bytes()
    path.write_bytes(b'?' if damage == 'junk' else content[: len(content) // 4 * 2])
    if damage == 'bit':
      path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    if damage == 'gone':
      path.unlink()
  again = TextData(story, tokenizer='characters').tokens('train').stream
  np.testing.assert_array_equal(again, expected)
  assert not list(cache.glob('unfinished*'))
  assert all(path.stat().st_size > 1 for path in cache.glob(f'*/{name}'))


def test_no_cache_is_no_harm(story, tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  data = TextData(story, tokenizer='characters')
  assert data.tokenizer.decode(data.tokens('train').stream) == STORY[: int(len(STORY) * 0.9)]


def test_an_error_leaves_nothing_half_done_behind(story, cache, monkeypatch):
  monkeypatch.setattr(corpus, '_batches', lambda texts: iter([['a', 5]]))
  with pytest.raises(AttributeError):
    TextData(story)
  assert not list(cache.iterdir())


def test_a_new_set_is_a_function_and_a_line(monkeypatch):
  def rhymes(val_fraction):
    def read(rows):
      return (f'rhyme {row}' for row in rows)

    return {name: datasets.TextSplit(f'rhymes {name}', 9, read) for name in ('train', 'validation')}

  monkeypatch.setitem(datasets.DATASETS, 'rhymes', rhymes)
  data = TextData('rhymes', tokenizer='characters', block_size=16)
  assert data.tokens('train').counts['documents'] == 9 and data.vocab_size == 15


# -------- what goes wrong, and what need not be there --------


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'block_size': 1}, 'data.block_size=1: must be at least 2'),
    ({'batch_size': 0}, 'data.batch_size=0: must be at least 1'),
    ({'eval_batch_size': -1}, 'data.eval_batch_size=-1: must be at least 0'),
    ({'prefetch': -1}, 'data.prefetch=-1: must be at least 0'),
    ({'val_fraction': 0.0}, 'data.val_fraction=0.0: must be between 0 and 1'),
    ({'packing': 'tight'}, "data.packing='tight': unknown; choices: stream, documents"),
    ({'tokenizer': 'words'}, "data.tokenizer='words': unknown; choices: characters, bytes, gpt2:"),
    ({'tokenizer': 'bpe:20'}, "data.tokenizer='bpe:20': unknown; .*a SIZE of at least 257"),
    (
      {'tokenizer': 'gpt2'},
      "data.tokenizer='gpt2': write 'gpt2:FOLDER', .*launch.py prepare gpt2_b",
    ),
    ({'tokenizer': 'gpt2:/nowhere'}, '/nowhere: holds no GPT-2 tokenizer'),
    ({'eval_split': 'test'}, "split 'test': not in this set; choices: train, validation"),
    (
      {'block_size': 2000},
      "data.block_size=2000: the split 'train' has only 1091 tokens, so it must be at most 1090",
    ),
  ],
)
def test_mistakes_are_named(story, options, message, monkeypatch, tmp_path):
  monkeypatch.delenv('GPT2_BPE_DIR', raising=False)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  with pytest.raises(ValueError, match=message):
    TextData(story, **options)


def test_metadata_needs_no_text(story, monkeypatch):
  monkeypatch.delenv('GPT2_BPE_DIR', raising=False)
  for tokenizer, size in [
    ('bytes', 257),
    ('gpt2', 50257),
    ('gpt2:/nowhere', 50257),
  ]:
    assert TextData.metadata('not_there', tokenizer) == TextMetadata(size, 256)
  assert TextData.metadata('tiny_shakespeare', 'characters', 64, batch_size=2) == TextMetadata(
    65, 64, 2
  )
  assert TextData.metadata(story, 'bpe:5000').vocab_size < 400  # not 5,000: the text is short
  known = TextData.metadata(story, 'characters', 64)
  assert (known.vocab_size, known.block_size) == (len(set(STORY)), 64)
  with pytest.raises(ValueError, match=r"data.tokenizer='words': unknown"):
    TextData.metadata('not_there', 'words')


# -------- the published vocabulary, where it is --------


@pytest.mark.skipif('GPT2_BPE_DIR' not in os.environ, reason='GPT2_BPE_DIR is not set')
def test_shakespeare_in_the_tokens_of_gpt2():
  path = pathlib.Path(os.environ['GPT2_BPE_DIR']).parent / 'tiny_shakespeare.txt'
  if not path.exists():
    pytest.skip('tiny_shakespeare.txt does not lie beside the vocabulary')
  data = TextData(str(path), tokenizer='gpt2', block_size=1024)
  counts = [data.tokens(split).counts['tokens'] for split in ('train', 'validation')]
  assert counts == [301966, 36059] and data.vocab_size == 50257
  assert data.tokenizer == tokenizers.gpt2(os.environ['GPT2_BPE_DIR'])
