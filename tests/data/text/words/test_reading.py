"""The words of files, folders and archives, of any size and in any state."""

import gzip
import logging

import pytest

from data.text.words import reading


def words(path, how='spaces', lower=True):
  text = reading.find(str(path), '**/*', how, lower)
  return [word for piece in text.pieces() for word in piece]


def test_a_line_is_a_sentence_of_a_file_an_archive_or_a_folder(tmp_path):
  (tmp_path / 'a.txt').write_text('The cat\nsat .\n')
  with gzip.open(tmp_path / 'b.txt.gz', 'wt') as file:
    file.write('On the mat')
  assert words(tmp_path / 'a.txt') == ['the', 'cat', '\n', 'sat', '.', '\n', '\n']
  assert words(tmp_path / 'b.txt.gz', lower=False) == ['On', 'the', 'mat', '\n']
  both = [word for word in words(tmp_path) if word != '\n']
  assert both == ['the', 'cat', 'sat', '.', 'on', 'the', 'mat']


def test_letters_are_words_without_what_stands_around_them(tmp_path):
  (tmp_path / 'a').write_text("Don't stop, café_2x!")
  assert words(tmp_path / 'a', 'letters')[:-1] == ["don't", 'stop', 'café', 'x']


@pytest.mark.parametrize('piece', [1, 7, 16])
def test_words_are_not_cut_where_a_piece_ends(tmp_path, monkeypatch, piece):
  text = 'one  two three\n\nfour five ' * 9
  (tmp_path / 'a').write_text(text)
  whole = words(tmp_path / 'a')
  monkeypatch.setattr(reading, 'PIECE', max(piece, 8))
  assert words(tmp_path / 'a') == whole


def test_a_text_without_spaces_fills_no_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(reading, 'PIECE', 4096)
  (tmp_path / 'a').write_text('x' * 100_000)
  found = words(tmp_path / 'a')
  assert max(map(len, found)) <= reading.LONGEST


def test_bytes_that_are_not_utf_8_are_counted_and_said_once(tmp_path, caplog):
  (tmp_path / 'a').write_bytes(b'one \xff two \xfe three\n')
  with caplog.at_level(logging.WARNING):
    assert words(tmp_path / 'a')[:5] == ['one', '\ufffd', 'two', '\ufffd', 'three']
  [line] = [record.getMessage() for record in caplog.records]
  assert 'characters that are not UTF-8, read as U+FFFD: 2' in line


def test_an_archive_that_is_cut_short_is_an_error_of_one_line(tmp_path):
  whole = gzip.compress(b'one two three\n' * 1000)
  (tmp_path / 'a.gz').write_bytes(whole[:-9])
  with pytest.raises(ValueError, match=r'a\.gz: cannot be read: Compressed file ended'):
    words(tmp_path / 'a.gz')


def test_what_is_not_there_is_an_error_that_names_the_choices(tmp_path):
  with pytest.raises(
    ValueError, match=r"data\.dataset='.*none': no such file or folder; choices: p"
  ):
    words(tmp_path / 'none')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match=r"the folder has no text files like '\*\*/\*'"):
    words(tmp_path / 'empty')


@pytest.mark.long
def test_python_documents_itself():
  found = words('python_docs')
  assert 200_000 < sum(word != '\n' for word in found) < 1_000_000
  assert '>>>' not in found
  assert found.count('list') > 100
