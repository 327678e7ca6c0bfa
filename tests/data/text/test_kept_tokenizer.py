"""A run keeps what it learnt from its text: the tokenizer in its own folder."""

import pathlib

import jax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from data.text import tokenizers
from data.text.source import TextData

TEXT = ''.join(f'{i} sheep, ' for i in range(120))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.delenv('GPT2_BPE_DIR', raising=False)


@pytest.fixture
def story(tmp_path):
  (tmp_path / 'story.txt').write_text(TEXT)
  return str(tmp_path / 'story.txt')


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'run').mkdir()
  return str(tmp_path / 'run' / 'tokenizer')


def sharding():
  mesh = jax.make_mesh((1,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
  return NamedSharding(mesh, PartitionSpec('data'))


def begin(dataset, folder, tokenizer='characters', **options):
  """As training does."""
  data = TextData(dataset, tokenizer=tokenizer, block_size=8, folder=folder, **options)
  data.train_source(0, sharding())
  data.close()
  return data.tokenizer


@pytest.mark.parametrize('tokenizer', ['characters', 'bytes', 'bpe:280', 'numbers:120'])
def test_it_is_kept_and_used_without_the_dataset(story, folder, tokenizer):
  if tokenizer.startswith('numbers'):
    pathlib.Path(story).write_text(' '.join(map(str, range(120))))
  first = begin(story, folder, tokenizer)
  pathlib.Path(story).unlink()
  again = TextData(story, tokenizer=tokenizer, block_size=8, folder=folder, read=False)
  assert again.tokenizer == first and again.vocab_size == first.vocab_size
  with pytest.raises(ValueError, match=r'no such file or folder'):
    again.tokens('train')
  with pytest.raises(ValueError, match=r'no such file or folder'):
    TextData(story, tokenizer=tokenizer, block_size=8, folder=folder)
  assert [path.name for path in pathlib.Path(folder).parent.iterdir()] == ['tokenizer']


def test_nothing_is_kept_before_training(story, folder):
  TextData(story, tokenizer='characters', block_size=8, folder=folder)
  assert not pathlib.Path(folder).exists()
  TextData(story, tokenizer='characters', block_size=8)  # and none where there is no run


def test_what_is_kept_is_not_learnt_again(story, folder):
  first = begin(story, folder, 'bpe:280')
  pathlib.Path(story).write_text(TEXT.replace('sheep', 'goats'))
  assert begin(story, folder, 'bpe:280') == first
  assert begin(story, None, 'bpe:280') != first


def test_a_text_with_other_characters_is_one_clear_line(story, folder):
  begin(story, folder)
  pathlib.Path(story).write_text(TEXT.replace('s', 'ß'))
  with pytest.raises(ValueError, match=r"'ß' \(U\+00DF\) at 2 of the text: not among") as caught:
    begin(story, folder)
  message = str(caught.value)
  assert '\n' not in message and story in message and folder in message
  assert 'another text wants another --workdir' in message


def test_what_is_wrong_with_a_text_shows_before_training(story, folder):
  """Also in what is evaluated on: the loop would meet it late."""
  begin(story, folder)
  pathlib.Path(story).write_text(TEXT[:-20] + 'ß' * 20)
  with pytest.raises(ValueError, match=r"'ß' \(U\+00DF\)"):
    TextData(story, tokenizer='characters', block_size=8, folder=folder)
  with pytest.raises(ValueError, match=r"split 'test': not in this set"):
    TextData(story, tokenizer='characters', block_size=8, folder=folder, eval_split='test')
  TextData(story, tokenizer='characters', block_size=8, folder=folder, read=False)


@pytest.mark.parametrize(
  'kept, wanted, message',
  [
    ('characters', 'bytes', r"data.tokenizer='bytes': .* keeps another one, characters of 16"),
    ('bytes', 'gpt2', r"data.tokenizer='gpt2': .* keeps another one, bytes of 257"),
    ('bpe:280', 'bpe:270', r"data.tokenizer='bpe:270': .* keeps another one, bpe of 2[78]"),
    ('bpe:280', 'words', r"data.tokenizer='words': "),
    ('numbers:99', 'numbers:98', r'keeps another one, numbers of 99 tokens'),
  ],
)
def test_another_kind_is_refused(story, folder, kept, wanted, message):
  if kept.startswith('numbers'):
    pathlib.Path(story).write_text('1 2 3 ' * 50)
  begin(story, folder, kept)
  with pytest.raises(ValueError, match=message):
    TextData(story, tokenizer=wanted, block_size=8, folder=folder)


def test_a_kept_bpe_is_what_gpt2_means(story, folder):
  """An imported workdir says `gpt2` and needs no folder of GPT-2's files."""
  first = begin(story, folder, 'bpe:280')
  for spec in ('gpt2', 'gpt2:/nowhere'):
    data = TextData(story, tokenizer=spec, block_size=8, folder=folder, read=False)
    assert data.tokenizer == first


@pytest.mark.parametrize('content', ['', '{"kind": "words"}', '{"kind": "numbers"}'])
def test_a_damaged_one_is_named(story, folder, content):
  begin(story, folder)
  (pathlib.Path(folder) / 'tokenizer_kind.json').write_text(content)
  with pytest.raises(ValueError, match=r'tokenizer/tokenizer_kind.json: not what save writes'):
    TextData(story, tokenizer='characters', block_size=8, folder=folder)


def test_it_is_written_whole_or_not_at_all(story, folder, monkeypatch):
  save = tokenizers.Characters.save

  def half(self, folder):
    save(self, folder)
    raise KeyboardInterrupt

  TextData(story, tokenizer='characters', block_size=8)  # it is in the cache now

  with monkeypatch.context() as patch:
    patch.setattr(tokenizers.Characters, 'save', half)
    with pytest.raises(KeyboardInterrupt):
      begin(story, folder)
  assert not pathlib.Path(folder).exists()
  assert begin(story, folder) == tokenizers.load(folder)


def test_one_of_several_processes_writes(story, folder, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  one = begin(story, folder)
  assert not pathlib.Path(folder).exists()
  monkeypatch.setattr(jax, 'process_index', lambda: 0)
  assert begin(story, folder) == one == tokenizers.load(folder)


# -------- tokens as numbers --------


def test_numbers_are_the_tokens():
  tokenizer = tokenizers.Numbers(12)
  assert tokenizer.encode('11 0\n 3\t3 ') == [11, 0, 3, 3] and tokenizer.encode('') == []
  assert tokenizer.decode([11, 0]) == '11 0 ' and tokenizer.eot is None
  assert tokenizer.encode(tokenizer.decode(range(12))) == list(range(12))
  for text, word in (('1 12', "'12', word 1"), ('x', "'x', word 0"), ('-1', "'-1'"), ('²', "'²'")):
    with pytest.raises(ValueError, match=f'{word}.*: not among the numbers from 0 to 11'):
      tokenizer.encode(text)
  with pytest.raises(ValueError, match='vocab_size=0'):
    tokenizers.Numbers(0)


def test_a_misspelt_size_names_the_choices(story):
  for spec in ('numbers', 'numbers:0', 'numbers:x'):
    with pytest.raises(ValueError, match=r'unknown; choices: .*numbers:SIZE'):
      TextData(story, tokenizer=spec)
