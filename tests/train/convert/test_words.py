"""word2vec's files of vectors: read and written, as gensim has them, and damaged ones."""

import numpy as np
import pytest

from data.text.words import vectors
from models.weights.files import Files
from train import convert, verbs
from train.convert import formats
from train.errors import UserError

WORDS = ['the', 'naïve', 'New_York', "don't", '15']
ROWS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

pytestmark = pytest.mark.usefixtures('one_device')


def written(tmp_path, binary, name='vectors'):
  path = tmp_path / f'{name}.{"bin" if binary else "txt"}'
  vectors.write(path, WORDS, ROWS, binary=binary)
  return path


@pytest.mark.parametrize('binary', [False, True])
def test_what_is_written_is_read_to_the_bit(tmp_path, binary):
  words, rows = vectors.read(written(tmp_path, binary))
  assert words == WORDS
  np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize('binary', [False, True])
def test_gensim_reads_ours_and_we_read_gensims(tmp_path, binary):
  models = pytest.importorskip('gensim').models
  found = models.KeyedVectors.load_word2vec_format(str(written(tmp_path, binary)), binary=binary)
  assert found.index_to_key == WORDS
  np.testing.assert_array_equal(found.vectors, ROWS)
  found.save_word2vec_format(str(tmp_path / 'theirs'), binary=binary)
  words, rows = vectors.read(tmp_path / 'theirs')
  assert words == WORDS
  np.testing.assert_array_equal(rows, ROWS)


def test_a_binary_file_with_or_without_line_ends_is_the_same(tmp_path):
  head = b'2 2\n'
  rows = [b'one ' + ROWS[0, :2].tobytes(), b'two ' + ROWS[1, :2].tobytes()]
  for end in (b'', b'\n'):
    (tmp_path / 'v.bin').write_bytes(head + b''.join(row + end for row in rows))
    words, found = vectors.read(tmp_path / 'v.bin')
    assert words == ['one', 'two']
    np.testing.assert_array_equal(found, ROWS[:2, :2])


@pytest.mark.parametrize('binary', [False, True])
def test_vectors_become_a_run_that_lists_neighbours_and_is_written_again(tmp_path, binary, capsys):
  path, workdir = written(tmp_path, binary), str(tmp_path / 'run')
  convert.import_weights(str(path), workdir)
  assert '5 words of 4 dimensions' in capsys.readouterr().out
  verbs.sample(workdir, options={'word': ['New_York'], 'top': 2})
  unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
  nearest = WORDS[np.argsort(-(unit @ unit[2]))[1]]
  assert capsys.readouterr().out.split()[2] == nearest
  again = tmp_path / f'again{path.suffix}'
  convert.export_word2vec(workdir, str(again))
  assert again.read_bytes() == path.read_bytes()
  with pytest.raises(UserError, match=r'again\.(txt|bin): is there already; another name, such as'):
    convert.export_word2vec(workdir, str(again))


def damaged(tmp_path, contents):
  path = tmp_path / 'bad'
  path.write_bytes(contents)
  return path


@pytest.mark.parametrize(
  ('contents', 'message'),
  [
    (b'3 2\na 1 2\nb 3 4\n', r'bad: row 3 of 3 has 0 numbers, not 2; the file is cut short'),
    (b'2 2\na 1 2\nb 3\n', r'bad: row 2 of 2 has 1 numbers, not 2$'),
    (b'2 2\na 1 2\nb 3 4 5\n', r'bad: row 2 of 2 has 3 numbers, not 2$'),
    (b'2 2\na 1 2\nb 3 x\n', r"bad: row 2 has no numbers: b'b 3 x"),
    (b'2 2\na 1 2\nb nan 4\n', r"bad: row 2, of 'b', has numbers that are not finite"),
    (b'2 2\na 1 2\n 3 4\n', r'bad: row 2 has no word'),
    (b'900 50\na 1 2\n', r'bad: cut short: 13 bytes are too few for the 900 words of 50 dimensi'),
    (b'2 2\none \0\0\0\0\0\0\0\0two \0\0\0', r'bad: cut short in row 2 of 2'),
    (b'0 2\n', r'bad: says that it has 0 words of 2 dimensions'),
    (b'words\n', r"bad: begins with b'words\\n', not with a line 'words dimension'"),
    (b'', r"bad: begins with b'', not with a line 'words dimension'"),
  ],
)
def test_a_damaged_file_is_refused_in_a_line(tmp_path, contents, message):
  with pytest.raises(ValueError, match=message):
    vectors.read(damaged(tmp_path, contents))


def test_a_file_of_vectors_is_recognised_and_nothing_else_is(tmp_path):
  assert formats.find(Files(written(tmp_path, False)), None).what.startswith("word2vec's vectors")
  assert vectors.is_vectors(damaged(tmp_path, b'900 50\na 1 2\n'))  # cut short, which is said later
  (tmp_path / 'text').write_text('12 monkeys\n')
  assert not vectors.is_vectors(tmp_path / 'text')


def test_only_vectors_of_words_are_exported(tmp_path):
  (tmp_path / 'config.json').write_text(
    '{"task": {"name": "language"}, "model": {}, "data": {}, "train": {}}'
  )
  with pytest.raises(UserError, match=r"task\.name='language'; only vectors of words are exported"):
    convert.export_word2vec(str(tmp_path), str(tmp_path / 'v.txt'))
