"""Files of text in the wild: what is left out is said, and what is changed is read anew."""

import gzip
import logging
import os

import pytest

from data.text import datasets, files
from data.text.source import TextData
from tests.data.text import small_texts

cache = small_texts.cache  # a fixture that acts by itself


@pytest.fixture
def warnings(caplog):
  """What was said, in lines."""
  caplog.set_level(logging.WARNING, 'absl')
  return lambda: [record.getMessage() for record in caplog.records]


def texts_of(folder, **options):
  splits = datasets.load(str(folder), **options)
  return {x: list(splits[x].read(range(splits[x].size))) for x in ('train', 'validation')}


def write(root, **contents):
  for name, content in contents.items():
    path = root / name.replace('__', '.').replace('_in_', '/')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_links_to_folders_are_followed_and_one_that_leads_back_is_not(tmp_path):
  write(tmp_path / 'set', a__txt='first', b__txt='second')
  write(tmp_path / 'elsewhere', c__txt='third')
  (tmp_path / 'set' / 'linked').symlink_to(tmp_path / 'elsewhere')
  (tmp_path / 'set' / 'round').symlink_to(tmp_path / 'set')
  found = files.find(tmp_path / 'set', '**/*')
  assert [path.name for path in found] == ['a.txt', 'b.txt', 'c.txt']


def test_what_is_left_out_is_counted_and_said_once(tmp_path, warnings):
  wide = 'wide'.encode('utf-16')
  write(tmp_path, a__txt='first', b__txt='second', picture=b'\x89PNG\r\n', wide=wide)
  write(tmp_path, nul=b'a\0b\0', empty='', Thumbs__db='x', __hidden='x', __git_in_config='x')
  (tmp_path / '__MACOSX').mkdir()
  (tmp_path / 'gone').symlink_to(tmp_path / 'nowhere')
  found = files.find(tmp_path, '**/*')
  assert [path.name for path in found] == ['a.txt', 'b.txt', 'empty']
  [line] = warnings()
  assert line.startswith(f'{tmp_path}: left out: ')
  for part in ('hidden files and folders: 1', 'not UTF-8: 3 (such as', 'empty files: 1'):
    assert part in line
  assert 'broken links: 1' in line
  assert 'Thumbs' not in line and '__MACOSX' not in line and '.git' not in line  # systems' own


@pytest.mark.parametrize(
  ('pattern', 'names'),
  [
    ('**/*', 'a.txt b.md c.txt'),
    ('**/*.txt', 'a.txt c.txt'),
    ('*.txt', 'a.txt'),
    ('deep/**/*', 'c.txt'),
    ('*/er/*.txt', 'c.txt'),
  ],
)
def test_patterns_are_those_of_pathlib(tmp_path, pattern, names):
  write(tmp_path, a__txt='a', b__md='b', deep_in_er_in_c__txt='c')
  found = files.find(tmp_path, pattern)
  assert ' '.join(sorted(path.name for path in found)) == names
  assert found == sorted(path for path in tmp_path.glob(pattern) if path.is_file())


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('wide'.encode('utf-16'), 'byte 0xff at 0 is not UTF-8; it is UTF-16'),
    ('wide'.encode('utf-16-le'), 'character 1 is NUL; must be a text in UTF-8'),
    ('café'.encode('latin-1'), 'byte 0xe9 at 3 is not UTF-8'),
    (b'\xed\xa0\x80', 'byte 0xed at 0 is not UTF-8'),  # half a surrogate pair
  ],
)
def test_a_file_that_is_not_utf8_is_refused(tmp_path, content, message):
  write(tmp_path, a__txt=content)
  with pytest.raises(ValueError, match=f'a.txt: {message}'):
    TextData(str(tmp_path / 'a.txt'))


def test_a_mark_of_byte_order_is_no_text_and_line_ends_stay(tmp_path):
  write(tmp_path, a__txt=b'\xef\xbb\xbfone\r\ntwo\n', b__gz=gzip.compress(b'\xef\xbb\xbfone'))
  assert files.read(tmp_path / 'a.txt') == 'one\r\ntwo\n'
  assert files.read(tmp_path / 'b.gz') == 'one'


# -------- separators --------


@pytest.mark.parametrize('separator', ['\n\n', r'\n\n'])
def test_a_separator_may_be_written_as_a_shell_hands_it_over(tmp_path, separator):
  write(tmp_path, a__txt='one\n\ntwo\n\nthree and four and five and more')
  found = texts_of(tmp_path / 'a.txt', separator=separator, val_fraction=0.5)
  assert found['train'][:2] == ['one', 'two']


def test_escapes_are_read_as_in_python():
  assert files.unescaped(r'\r\n\t<\\n>é') == '\r\n\t<\\n>é'


@pytest.mark.parametrize(
  ('text', 'separator', 'message'),
  [
    ('one\ntwo\n' * 20, '<end>', "data.separator='<end>': does not occur in .*a.txt train"),
    ('one\r\n\r\ntwo' * 20, r'\n\n', r"data.separator='.n.n': .*; its lines end with '.r.n'"),
  ],
)
def test_a_separator_that_never_occurs_is_refused(tmp_path, text, separator, message):
  write(tmp_path, a__txt=text)
  with pytest.raises(ValueError, match=message):
    TextData(str(tmp_path / 'a.txt'), block_size=4, separator=separator)


def test_a_separator_at_the_end_of_each_file_is_one(tmp_path):
  write(tmp_path, a='a story<end>' * 1, b='another story<end>', c='a third<end>')
  data = TextData(str(tmp_path), block_size=4, separator='<end>')
  assert data.tokens('train').counts['documents'] == 2
  with pytest.raises(
    ValueError, match=r"data\.separator='x': is of files and folders, not of python"
  ):
    datasets.load('python', separator='x')


# -------- contents, not times --------


@pytest.mark.parametrize('tokenizer', ['bytes', 'characters', 'bpe:257'])
def test_other_contents_of_the_same_size_and_time_are_read_anew(tmp_path, tokenizer):
  path = tmp_path / 'a.txt'
  write(tmp_path, a__txt='abcdefgh' * 30)
  facts = os.stat(path)
  TextData(str(path), tokenizer=tokenizer, block_size=4)
  write(tmp_path, a__txt='abcdefgz' * 30)
  os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
  data = TextData(str(path), tokenizer=tokenizer, block_size=4)
  assert ('abcdefgz' * 30)[:216] in data.tokenizer.decode(data.tokens('train').stream)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
  write(tmp_path, a__txt='abcdefgh' * 30)
  splits = datasets.load(str(tmp_path / 'a.txt'))
  (tmp_path / 'a.txt').unlink()
  with pytest.raises(ValueError, match=r'a.txt: cannot be read: No such file'):
    datasets.select(splits, 'train').cache_entry('tokens')


def test_a_text_that_moved_is_not_encoded_again(tmp_path, monkeypatch):
  write(tmp_path / 'here', a__txt='abcdefgh' * 30)
  TextData(str(tmp_path / 'here' / 'a.txt'), block_size=4)
  (tmp_path / 'here').rename(tmp_path / 'there')
  monkeypatch.setattr(files, 'read', lambda path: pytest.fail('the text is read again'))
  TextData(str(tmp_path / 'there' / 'a.txt'), block_size=4)


# -------- settings that only fail together --------


@pytest.mark.parametrize(
  ('text', 'options', 'message'),
  [
    ('abcdefghij', {'tokenizer': 'characters'}, "split 'validation': it has only one token"),
    (
      'a' * 2,
      {'val_fraction': 0.5},
      r"the split 'train' has only 3 tokens, so it must be at most 2",
    ),
    ('ab', {'tokenizer': 'characters', 'val_fraction': 0.5}, 'so it fits no row; 3 tokens are the'),
    (
      'a|b|c|d|e|f|g|h',
      {'tokenizer': 'characters', 'separator': '|', 'packing': 'documents', 'val_fraction': 0.4},
      "split '.*': each of its documents has only one token",
    ),
  ],
)
def test_splits_with_nothing_to_predict_are_refused_at_the_start(tmp_path, text, options, message):
  write(tmp_path, a__txt=text)
  with pytest.raises(ValueError, match=message):
    TextData(str(tmp_path / 'a.txt'), **{'block_size': 3, **options})


# -------- what `launch.py prepare` has written --------


def test_prepared_data_are_found(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.delenv('GPT2_BPE_DIR', raising=False)
  with pytest.raises(ValueError, match=r"'tiny_shakespeare': not found.*launch.py prepare tiny_sh"):
    datasets.load('tiny_shakespeare')
  write(tmp_path, tiny_shakespeare__txt='First Citizen:\n' * 20)
  assert texts_of('tiny_shakespeare')['train'][0].startswith('First Citizen:')
  (tmp_path / 'gpt2_bpe').mkdir()
  with pytest.raises(ValueError, match='gpt2_bpe: holds no GPT-2 tokenizer'):
    TextData('tiny_shakespeare', tokenizer='gpt2')
