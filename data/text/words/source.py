"""The config section `data=dict(name='words', ...)`: a text as words, for Word2Vec.

A batch is B chunks of the text. Of a chunk frequent words are left out by chance before windows are
cut, as in word2vec.c, so that a window reaches further.

  words: int32 [B, N], numbers of the words that are left, from 0 (the most frequent).
  sentences: int32 [B, N], the number of each word's sentence in its chunk; -1 behind the last word.
  index: int32 [B], the chunk's number.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from data import cache, checks, fingerprint, pipeline
from data.text.words import corpus as corpus_lib
from data.text.words import reading, vocabulary
from data.text.words.phrases import Phrases
from data.text.words.vocabulary import Vocabulary

NO_PHRASES = Phrases()
EVAL_CHUNKS = 16  # of which the loss is measured, where there is no file of questions
# Vocabularies that programs are built for where the text is not there: (file, min_count) -> words.
PUBLISHED = {('english.txt.gz', 5): 60_143}


@dataclasses.dataclass(frozen=True)
class WordMetadata:
  """What programs are built from: the size of the vocabulary, of a chunk and of a batch."""

  vocab_size: int
  chunk: int
  batch_size: int
  lower: bool = True
  sample: float = 1e-3

  @property
  def vocabulary(self) -> Vocabulary:
    """A vocabulary of that size, whose counts are Zipf's."""
    words = [str(i) for i in range(self.vocab_size)]
    return Vocabulary(words, self.vocab_size * 5 // np.arange(1, self.vocab_size + 1))

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.AbstractSource:
    """Returns what training batches look like."""
    del seed
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    return pipeline.AbstractSource(fields(self.chunk), self.batch_size, sharding)


class WordData:
  """A text's words in batches of chunks. The text is read once and kept in the cache as numbers.

  Args:
    dataset: 'python_docs' (the documentation strings of the interpreter's library), a file, or a
      folder of files; they may be gzipped. A line is a sentence.
    pattern: which files of a folder are read.
    words: what a word is: 'spaces' (what stands between spaces) or 'letters' (runs of letters).
    lower: whether words are made lower case.
    min_count: words that are there less often are left out.
    max_vocab: the most words of the vocabulary, 0: all.
    sample: t of subsampling, the frequency above which words are left out by chance; 0: none.
    chunk: words of the text in a row of a batch.
    batch_size: chunks that are read side by side.
    prefetch: batches that are read ahead.
    phrases: how phrases are found.
    folder: the run's own, where the vocabulary is kept; one that is there is the one that is used.
    read: whether what is wrong with the text should show at once; else, and with a vocabulary in
      `folder`, it is read when it is needed.

  Raises:
    ValueError: on what does not fit together or is not there.
  """

  def __init__(
    self,
    dataset: str = reading.EMBEDDED,
    pattern: str = '**/*',
    words: str = 'spaces',
    lower: bool = True,
    min_count: int = 5,
    max_vocab: int = 0,
    sample: float = 1e-3,
    chunk: int = 8192,
    batch_size: int = 8,
    prefetch: int = 2,
    phrases: Phrases = NO_PHRASES,
    *,
    folder: str | None = None,
    read: bool = True,
  ):
    checks.at_least(1, min_count=min_count, batch_size=batch_size, chunk=chunk)
    checks.at_least(0, max_vocab=max_vocab, prefetch=prefetch)
    checks.choice(reading.TOKENS, words=words)
    if not 0 <= sample <= 1:
      raise ValueError(f'data.sample={sample}: must be a frequency from 0 (all words stay) to 1')
    self.batch_size, self.chunk, self.prefetch, self.sample = batch_size, chunk, prefetch, sample
    self._dataset, self._folder, self.lower = dataset, folder, lower
    self._text, self._recipe = (pattern, words, lower), (phrases, min_count, max_vocab)
    self._corpus: corpus_lib.Corpus | None = None
    self._pool = ThreadPoolExecutor(1, 'words')
    self._kept = vocabulary.load(folder) if folder and vocabulary.holds(folder) else None
    if read or self._kept is None:
      self._kept = self._load().vocabulary
    self.vocabulary = self._kept

  @classmethod
  def metadata(
    cls,
    dataset: str = reading.EMBEDDED,
    min_count: int = 5,
    chunk: int = 8192,
    batch_size: int = 8,
    phrases: Mapping[str, Any] | None = None,
    **rest,
  ) -> 'WordMetadata | WordData':
    """Returns what programs are built from; the text is read if it is there."""
    size = PUBLISHED.get((pathlib.Path(dataset).name, min_count))
    if size and not os.path.exists(dataset):
      return WordMetadata(size, chunk, batch_size)
    rest |= {'min_count': min_count, 'chunk': chunk, 'batch_size': batch_size}
    return cls(dataset=dataset, phrases=Phrases(**phrases or {}), **rest)

  @property
  def vocab_size(self) -> int:
    """The number of words in the vocabulary."""
    return len(self.vocabulary.words)

  @property
  def epoch(self) -> int:
    """How many steps read the text once, rounded up."""
    return -(-self._chunks() // self.batch_size)

  def describe(self) -> str:
    """Returns the text, its words and its vocabulary in a line."""
    return (
      f'{self._dataset}, {self.vocabulary.total:,} words, a vocabulary of {self.vocab_size:,};'
      f' {self.epoch:,} steps read it once'
    )

  def fingerprints(self) -> dict[str, str]:
    """Returns split -> a hash of the words, if they were read (`data.fingerprint`)."""
    return {'train': fingerprint.of_arrays(self._corpus.stream)} if self._corpus else {}

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.TrainSource:
    """Returns shuffled chunks without end, and keeps the vocabulary in the run's folder."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    if self._folder and jax.process_index() == 0 and not vocabulary.holds(self._folder):
      with cache.atomic_folder(pathlib.Path(self._folder)) as unfinished:
        self.vocabulary.save(unfinished)
    order = pipeline.EpochOrder(seed, self._chunks())
    return pipeline.TrainSource(self._loader(sharding), order, self.batch_size, sharding)

  def eval_batches(self, sharding: NamedSharding) -> pipeline.EvalBatches:
    """Returns EVAL_CHUNKS chunks of the text, always the same, or all; they can be iterated."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    chosen, size = pipeline.even_rows(EVAL_CHUNKS, self._chunks()), self._chunks()
    return pipeline.EvalBatches(self._loader(sharding), size, self.batch_size, chosen)

  def close(self) -> None:
    """Stops the thread, and drops what was read ahead; batches handed out stay valid."""
    self._pool.shutdown(wait=True, cancel_futures=True)

  def _loader(self, sharding: NamedSharding) -> 'ChunkLoader':
    words = self.corpus
    return ChunkLoader(words, self.chunk, self.sample, sharding, self._pool, self.prefetch)

  @property
  def corpus(self) -> corpus_lib.Corpus:
    """The text, which is read at the first call."""
    return self._load()

  def _load(self) -> corpus_lib.Corpus:
    if self._corpus is None:
      text = reading.find(self._dataset, *self._text)
      found = corpus_lib.build(text, *self._recipe)
      self._check_kept(found.vocabulary)
      self._corpus = found
    return self._corpus

  def _chunks(self) -> int:
    return -(-len(self.corpus.stream) // self.chunk)

  def _check_kept(self, found: Vocabulary) -> None:
    """Raises ValueError if the text has other words than those that a run began with."""
    kept = self._kept
    if kept is not None and list(kept.words) != list(found.words):
      raise ValueError(
        f'data.dataset={self._dataset!r}: has {len(found.words):,} words, and others than the'
        f' {len(kept.words):,} that this run began with (it keeps them in {self._folder}); another'
        ' text wants another --workdir'
      )


def fields(chunk: int) -> pipeline.Fields:
  """Returns what a batch holds of a chunk."""
  row = ((chunk,), np.int32)
  return pipeline.record_fields(mask=((), np.float32), words=row, sentences=row)


class ChunkLoader:
  """Reads chunks in a thread; a process reads its own only."""

  def __init__(
    self,
    words: corpus_lib.Corpus,
    chunk: int,
    sample: float,
    sharding: NamedSharding,
    pool: ThreadPoolExecutor,
    prefetch: int,
  ):
    self._stream, self._chunk = np.asarray(words.stream), chunk
    self._keep = words.vocabulary.keep(sample)
    self._sharding, self._pool = sharding, pool
    self.fields, self.prefetch = fields(chunk), prefetch

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Pending:
    """Begins to read chunks; which of their words stay depends on the seed and the chunk."""
    mine = pipeline.local_positions(self._sharding, len(rows))
    reading = self._pool.submit(self._read, rows[mine], seed)
    return lambda: pipeline.to_global(reading.result(), mine, self._sharding, len(rows))

  def _read(self, rows: np.ndarray, seed: tuple[int, ...]) -> dict[str, np.ndarray]:
    words = np.zeros((len(rows), self._chunk), np.int32)
    sentences = np.full_like(words, -1)
    for i, row in enumerate(rows.tolist()):
      if row < 0:  # padding of an evaluation
        continue
      left, where = self._subsampled(row, np.random.default_rng((*seed, row)))
      words[i, : len(left)], sentences[i, : len(left)] = left, where
    index = rows.astype(np.int32)
    return {
      **{'words': words, 'sentences': sentences},
      **{'index': index, 'mask': (rows >= 0).astype(np.float32)},
    }

  def _subsampled(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the words of a chunk that are read, and the number of each one's sentence."""
    words = self._stream[row * self._chunk : (row + 1) * self._chunk]
    is_end = words == corpus_lib.END
    stay = ~is_end & (rng.random(len(words), np.float32) < self._keep[words])
    return words[stay], np.cumsum(is_end, dtype=np.int32)[stay]
