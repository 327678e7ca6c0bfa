"""Which words count, how often they are read, their Huffman tree, and phrases."""

import heapq

import numpy as np
import pytest

from data.text.words import phrases, vocabulary
from data.text.words.vocabulary import Vocabulary

TEXT = 'b a a c c \n d b e e e f \n'.replace('\n', '#').split(' ')
TEXT = ['\n' if word == '#' else word for word in TEXT]


def test_words_stand_by_count_then_as_they_were_first_seen():
  found = vocabulary.count([TEXT], min_count=1)
  assert found.words == ['e', 'b', 'a', 'c', 'd', 'f']
  assert found.counts.tolist() == [3, 2, 2, 2, 1, 1]
  assert vocabulary.count([TEXT], min_count=2).words == ['e', 'b', 'a', 'c']
  assert vocabulary.count([TEXT], min_count=1, max_size=2).words == ['e', 'b']


def test_the_rarest_words_are_forgotten_where_memory_would_not_do(monkeypatch):
  monkeypatch.setattr(vocabulary, 'MOST', 50)
  pieces = [[f'rare{i}', 'often'] for i in range(200)]
  found = vocabulary.count(pieces, min_count=2)
  assert found.words == ['often']
  assert found.counts[0] >= 100


def test_a_vocabulary_is_kept_as_word2vec_saves_it(tmp_path):
  found = vocabulary.count([TEXT, ['naïve', 'new_york']], min_count=1)
  found.save(tmp_path)
  assert (tmp_path / 'vocabulary.txt').read_text().startswith('e 3\nb 2\n')
  again = vocabulary.load(tmp_path)
  assert list(again.words) == list(found.words)
  assert again.counts.tolist() == found.counts.tolist()


@pytest.mark.parametrize('text', ['e\n', 'e x\n', 'e 3\ne 2\n', 'e -3\n', '\xff'.encode('latin-1')])
def test_a_damaged_vocabulary_is_an_error_that_names_the_file(tmp_path, text):
  (tmp_path / 'vocabulary.txt').write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(ValueError, match=r'vocabulary\.txt: damaged: '):
    vocabulary.load(tmp_path)


def test_frequent_words_are_left_out_by_word2vec_c_s_formula():
  found = Vocabulary(['the', 'cat'], np.array([900, 100]))
  keep = found.keep(0.01)
  assert keep[0] == pytest.approx(np.sqrt(0.01 / 0.9) + 0.01 / 0.9)
  assert keep[1] == pytest.approx(np.sqrt(0.1) + 0.1)
  assert found.keep(0).tolist() == [1, 1]
  assert found.keep(1).tolist() == [1, 1]


def optimal(counts):
  """The least number of turns of all words, from sums alone."""
  heap, total = list(counts), 0
  heapq.heapify(heap)
  while len(heap) > 1:
    both = heapq.heappop(heap) + heapq.heappop(heap)
    total += both
    heapq.heappush(heap, both)
  return total


@pytest.mark.parametrize('size', [2, 3, 7, 64, 500])
def test_huffman_codes_are_short_and_none_begins_another(size):
  counts = np.sort(np.random.default_rng(size).zipf(1.5, size).clip(max=10**6))[::-1]
  nodes, codes = Vocabulary([str(i) for i in range(size)], counts).huffman()
  lengths = (nodes >= 0).sum(1)
  assert (counts * lengths).sum() == optimal(counts.tolist())
  words = {''.join(str(int(x)) for x in code[:n]) for code, n in zip(codes, lengths, strict=True)}
  assert len(words) == size
  assert not any(b != a and b.startswith(a) for a in words for b in words)
  assert set(nodes[:, 0]) == {size - 2}  # all begin at the root
  assert nodes.max() == size - 2
  # A path goes down: inner nodes were made later, the nearer they are to the root.
  steps = np.diff(nodes, axis=1)
  assert (steps[nodes[:, 1:] >= 0] < 0).all()


def test_pairs_that_stand_together_become_phrases():
  text = ['in', 'new', 'york', 'they', 'in', 'old', 'york', '\n', 'new', 'york'] * 30
  found = phrases.find(lambda: iter([text]), phrases.Phrases(1, threshold=2.0, delta=5))
  words = [word for piece in found() for word in piece]
  assert words.count('new_york') == 60
  assert 'new' not in words
  assert words.count('old_york') + words.count('in_old') > 0
  assert words.count('\n') == 30  # no phrase reaches over the end of a line
  assert not any('\n' in word and word != '\n' for word in words)


def test_two_passes_make_phrases_of_three_words_and_no_pass_none():
  text = ['new', 'york', 'times', 'and', 'so', 'on', '\n'] * 30
  read = lambda: iter([text])  # noqa: E731
  twice = phrases.find(read, phrases.Phrases(2, threshold=2.0))
  assert 'new_york_times_and' in next(iter(twice()))
  assert phrases.find(read, phrases.Phrases(0)) is read
