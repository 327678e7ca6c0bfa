"""Small sets of sentence pairs: a folder of files, and how they are built into a source."""

import gzip

import pytest

from data.text.parallel.source import ParallelText
from tests.data.text import small_texts

cache = small_texts.cache  # a fixture

WORDS = ('eins', 'zwei', 'drei', 'vier', 'fünf', 'sechs', 'sieben', 'acht')


def sentences(count: int, start: int = 0) -> list[tuple[str, str]]:
  """Returns pairs of 1 to 8 words; no two are alike."""
  pairs = []
  for i in range(start, start + count):
    words = [WORDS[(i + j) % 8] for j in range(1 + i % 8)]
    pairs.append((' '.join(f'{word[:3]}' for word in words) + f' {i}.', ' '.join(words) + f' {i}.'))
  return pairs


def write_side(path, lines):
  text = ''.join(f'{line}\n' for line in lines).encode()
  path.write_bytes(gzip.compress(text) if path.suffix == '.gz' else text)


def write_pairs(folder, split, pairs, *, languages=('en', 'de'), ending='.gz'):
  folder.mkdir(exist_ok=True)
  for number, language in enumerate(languages):
    write_side(folder / f'{split}.{language}{ending}', [pair[number] for pair in pairs])


@pytest.fixture
def folder(tmp_path):
  """100 pairs to train on, 10 and 9 to evaluate."""
  root = tmp_path / 'pairs'
  for split, count, start in (('train', 100, 0), ('val', 10, 100), ('test', 9, 110)):
    write_pairs(root, split, sentences(count, start))
  return root


def small(dataset, **options) -> ParallelText:
  """Returns a source of small batches, of 16, 24 and 64 bytes a side."""
  given = {
    'tokenizer': 'bytes',
    'block_size': 64,
    'buckets': (16, 24),
    'batch_tokens': 512,
    'batch_size': 8,
    'eval_batch_size': 8,
    'eval_split': 'val',
  }
  return ParallelText(str(dataset), **{**given, **options})
