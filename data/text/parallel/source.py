"""The config section `data=dict(name='parallel', ...)`: pairs of sentences for translation."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jax.sharding import NamedSharding

from data import checks, fingerprint, pipeline
from data import splits as splits_lib
from data.remarks import Remarks
from data.text import choose_tokenizer, corpus
from data.text.datasets import Selection, select
from data.text.parallel import buckets as buckets_lib
from data.text.parallel import datasets
from data.text.parallel.tokenizer import RESERVED, PieceTokenizer, ended, padded_size
from data.text.tokenizer import Tokenizer

KINDS = ('bpe', 'bytes', 'gpt2', 'huggingface')  # which have a token for every text


@dataclasses.dataclass(frozen=True)
class ParallelMetadata:
  """What programs are built from; see `ParallelText`."""

  vocab_size: int
  languages: tuple[str, str] = ('en', 'de')
  block_size: int = 64
  batch_tokens: int = 4096
  batch_size: int = 16

  @property
  def shape(self) -> tuple[int, int]:
    """Rows and length [B, L] of the longest bucket's batches."""
    return _rows(self.batch_tokens, self.block_size, self.batch_size), self.block_size

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.AbstractSource:
    """Returns what training batches of the longest bucket look like."""
    del seed
    rows, length = self.shape
    return pipeline.AbstractSource(buckets_lib.fields(length), rows, sharding)


class ParallelText:
  """Pairs of sentences in batches by tokens; what a batch holds is said in `data.pipeline`.

  One vocabulary serves both languages. In training, and in what is translated, words have one
  space between them; references stay as they are (`lines`).

  Args:
    dataset: 'numerals' (embedded), 'A,B' (two files, a sentence a line), a file of lines with a tab
      between the sentences, a folder of files SPLIT.LANGUAGE or SPLIT.tsv, each perhaps with .gz
      behind it, or a TFDS set of translations, such as 'wmt14_translate/de-en'.
    data_dir: where TFDS sets lie (else $TFDS_DATA_DIR).
    source: the language to translate from, as files or features are named.
    target: the language to translate into.
    tokenizer: 'bpe:SIZE' (learnt from both sides of `train_split`; SIZE counts everything),
      'bytes', 'gpt2:FOLDER' or 'huggingface:FOLDER'.
    block_size: the most pieces of a sentence with its end. Longer pairs are left out of training;
      in evaluations they are cut.
    batch_tokens: places of a training batch a side, with padding: the shorter its sentences, the
      more it has.
    buckets: lengths to which sentences are padded, beside `block_size`; larger ones have no effect.
    batch_size: the rows of every batch are a multiple of it, so that devices and microbatches can
      share them.
    eval_batch_size: rows of an evaluation's batch.
    train_split: sliced and joined as in TFDS, 'train[:90%]'.
    eval_split: what is evaluated during training.
    test_split: what `launch.py eval` translates; '' is `eval_split`.
    val_fraction: the share of the pairs of two files, or of one, that is for validation.
    prefetch: batches that are read ahead.
    folder: the run's own, where the tokenizer is kept once training begins. One that is there is
      the one that is used.
    read: whether what is wrong with the text should show at once; else, and with a tokenizer in
      `folder`, it is read when it is needed.

  Raises:
    ValueError: on what does not fit together or is not there.
  """

  def __init__(
    self,
    dataset: str = 'numerals',
    data_dir: str | None = None,
    source: str = 'en',
    target: str = 'de',
    tokenizer: str = 'bpe:8000',
    block_size: int = 64,
    batch_tokens: int = 4096,
    buckets: tuple[int, ...] = (16, 24, 32, 48),
    batch_size: int = 16,
    eval_batch_size: int = 64,
    train_split: str = 'train',
    eval_split: str = 'validation',
    test_split: str = '',
    val_fraction: float = 0.1,
    prefetch: int = 2,
    *,
    folder: str | None = None,
    read: bool = True,
  ):
    checks.at_least(2, block_size=block_size, buckets=min(buckets, default=2))
    checks.at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
    checks.at_least(0, prefetch=prefetch)
    checks.share(val_fraction=val_fraction)
    _check_kind(tokenizer)
    self._dataset, self._folder, self.languages = dataset, folder, (source, target)
    self.block_size, self.batch_tokens, self.batch_size = block_size, batch_tokens, batch_size
    self.eval_batch_size, self.prefetch = eval_batch_size, prefetch
    self.train_split, self.eval_split = train_split, eval_split
    self.test_split = test_split or eval_split
    self._lengths = sorted({*(x for x in buckets if 2 <= x < block_size), block_size})
    _rows(batch_tokens, block_size, batch_size)  # raises if the longest bucket has no room
    self._load = functools.partial(
      datasets.load, dataset, self.languages, data_dir, val_fraction=val_fraction
    )
    spec = _of_pieces(tokenizer)
    self._kept = choose_tokenizer.load_kept(spec, folder)
    self.tokenizer = PieceTokenizer(self._kept or self._build_tokenizer(spec))
    self._pool = ThreadPoolExecutor(1, 'pairs')
    self._sides: dict[str, tuple[buckets_lib.Side, buckets_lib.Side]] = {}
    self._prints: dict[str, str] = {}
    if read or self._kept is None:
      self._train_buckets  # noqa: B018  what is wrong with the pairs shows now
    if read:
      self._side_pair(eval_split)
      self._selected(self.test_split)

  @classmethod
  def metadata(
    cls,
    dataset: str = 'numerals',
    source: str = 'en',
    target: str = 'de',
    tokenizer: str = 'bpe:8000',
    block_size: int = 64,
    batch_tokens: int = 4096,
    batch_size: int = 16,
    **rest: Any,
  ) -> 'ParallelMetadata | ParallelText':
    """Returns what programs are built from; pairs are read only if that depends on them.

    A vocabulary 'bpe:SIZE' has SIZE ids wherever the text is long enough, as published sets are.
    """
    kind, _, size = tokenizer.partition(':')
    if kind == 'bpe' and size.isdecimal() and dataset != 'numerals':
      languages = source, target
      return ParallelMetadata(
        padded_size(int(size)), languages, block_size, batch_tokens, batch_size
      )
    rest |= {'block_size': block_size, 'batch_tokens': batch_tokens, 'batch_size': batch_size}
    return cls(dataset=dataset, source=source, target=target, tokenizer=tokenizer, **rest)

  @property
  def vocab_size(self) -> int:
    """The number of ids of both languages; see `PieceTokenizer`."""
    return self.tokenizer.vocab_size

  @property
  def shape(self) -> tuple[int, int]:
    """Rows and length [B, L] of the longest bucket's batches."""
    return _rows(self.batch_tokens, self.block_size, self.batch_size), self.block_size

  def describe(self) -> str:
    """Returns the set, its pairs and their vocabulary in a line."""
    pairs = sum(len(bucket.rows) for bucket in self._train_buckets)
    shapes = ', '.join(f'{x.batch_size} x {x.length}' for x in self._train_buckets)
    return (
      f'{self._dataset}, {" to ".join(self.languages)}, {pairs:,} pairs to train on in batches of'
      f' {shapes}, {self.tokenizer.pieces.name} of a joint vocabulary of {self.vocab_size:,}'
    )

  def lines(self, split: str) -> tuple[list[str], list[str]]:
    """Returns the sentences of a split, sources and references, unchanged and in order."""
    pairs = [pair for part, rows in self._selected(split) for pair in part.read(rows)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

  def encode_source(
    self, sentences: Sequence[str], cut: Remarks, first: int = 1
  ) -> list[np.ndarray]:
    """Returns int32 ids of each sentence, with EOS; none of an empty one.

    Args:
      sentences: texts.
      cut: where those beyond the block are counted, which are cut.
      first: the line of the first of them.
    """
    texts = [datasets.normalised(sentence) for sentence in sentences]
    found, most = self.tokenizer.pieces.encode_many(texts), self.block_size - 1
    for number, ids in enumerate(found, first):
      if len(ids) > most:
        cut.add(f'sentences cut at data.block_size={self.block_size} pieces', f'line {number}')
    return [ended(ids[:most]) if len(ids) else np.zeros(0, np.int32) for ids in found]

  def fingerprints(self) -> dict[str, str]:
    """Returns split -> a hash of its tokens (`data.fingerprint`), of those that were read."""
    return dict(self._prints)

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.TrainSource:
    """Returns shuffled batches without end, and keeps the tokenizer in the run's folder."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    order = buckets_lib.BucketOrder(seed, self._train_buckets)
    if self._folder is not None:
      choose_tokenizer.keep(self.tokenizer.pieces, self._folder)
    loader, rows = self._loader(self.train_split, sharding), self.shape[0]
    return pipeline.TrainSource(loader, order, rows, sharding)

  def eval_batches(self, split: str, sharding: NamedSharding) -> pipeline.EvalBatches:
    """Returns every pair of `split` once, by length and not in order: `index` says which."""
    pipeline.check_divisible('eval_batch_size', self.eval_batch_size, sharding)
    longest, sizes = self._longest(split), dict.fromkeys(self._lengths, self.eval_batch_size)
    cut = Remarks(f'{self._dataset} {split}')
    if len(long := np.flatnonzero(longest > self.block_size)):
      cut.add(
        f'pairs cut at data.block_size={self.block_size} pieces', *_numbers(long), count=len(long)
      )
    cut.say()
    found = buckets_lib.make_buckets(sizes, longest, np.arange(len(longest)), cut=True)
    rows, loader = buckets_lib.in_batches(found), self._loader(split, sharding)
    return pipeline.EvalBatches(loader, len(rows), self.eval_batch_size, rows)

  def close(self) -> None:
    """Stops the thread, and drops what was read ahead; batches handed out stay valid."""
    self._pool.shutdown(wait=True, cancel_futures=True)

  # -------- what is read --------

  @functools.cached_property
  def _splits(self) -> Mapping[str, datasets.ParallelSplit]:
    return self._load()

  def _selected(self, split: str) -> list[tuple[datasets.ParallelSplit, range]]:
    found = [splits_lib.parse(self._splits, each.strip()) for each in split.split('+')]
    return [(self._splits[name], rows) for name, rows in found]

  def _selection(self, split: str, side: int) -> Selection:
    return select({name: part.side(side) for name, part in self._splits.items()}, split)

  def _build_tokenizer(self, spec: str) -> Tokenizer:
    source, target = (self._selection(self.train_split, side) for side in (0, 1))
    both = Selection((*source.parts, *target.parts))
    return choose_tokenizer.build(spec, both, both)

  def _side_pair(self, split: str) -> tuple[buckets_lib.Side, buckets_lib.Side]:
    """Returns both sides of a split as ids; they are encoded at the first call."""
    if split not in self._sides:
      selections = (self._selection(split, side) for side in (0, 1))
      source, target = (corpus.encode(x, self.tokenizer.pieces) for x in selections)
      arrays = (source.stream, source.begins, target.stream, target.begins)
      self._prints[split] = fingerprint.of_arrays(*arrays)
      self._sides[split] = buckets_lib.Side(source), buckets_lib.Side(target)
    return self._sides[split]

  def _longest(self, split: str) -> np.ndarray:
    """Returns int64 [N], the ids of the longer side of each pair."""
    source, target = self._side_pair(split)
    return np.maximum(source.lengths, target.lengths)

  @functools.cached_property
  def _train_buckets(self) -> list[buckets_lib.Bucket]:
    """The training pairs, without those that have an empty side or are longer than the block."""
    source, target = self._side_pair(self.train_split)
    empty = np.minimum(source.lengths, target.lengths) == 1  # nothing but EOS
    long = self._longest(self.train_split) > self.block_size
    left_out = Remarks(f'{self._dataset} {self.train_split}: left out of training')
    kinds = {'pairs with an empty side': empty}
    kinds[f'pairs longer than data.block_size={self.block_size} pieces'] = long & ~empty
    for kind, where in kinds.items():
      if where.any():
        left_out.add(kind, *_numbers(np.flatnonzero(where)), count=int(where.sum()))
    rows = np.flatnonzero(~(empty | long))
    if not len(rows):
      raise ValueError(f'{left_out.name} is everything: {left_out.text()}')
    left_out.say()
    sizes = {x: _rows(self.batch_tokens, x, self.batch_size) for x in self._lengths}
    return buckets_lib.make_buckets(sizes, self._longest(self.train_split), rows)

  def _loader(self, split: str, sharding: NamedSharding) -> buckets_lib.PairLoader:
    sides = self._side_pair(split)
    return buckets_lib.PairLoader(sides, self._lengths, sharding, self._pool, self.prefetch)


def _rows(batch_tokens: int, length: int, batch_size: int) -> int:
  """Returns the rows of a batch of a bucket: a multiple of `batch_size`."""
  rows = batch_tokens // length // batch_size * batch_size
  if rows < 1:
    raise ValueError(
      f'data.batch_tokens={batch_tokens}: must be at least {length * batch_size},'
      f' data.batch_size={batch_size} sentences of data.block_size={length} pieces'
    )
  return rows


def _check_kind(spec: str) -> None:
  kind, _, size = spec.partition(':')
  if kind not in KINDS or (kind == 'bpe' and not (size.isdecimal() and int(size) >= 260)):
    raise ValueError(
      f'data.tokenizer={checks.shown(spec)}: unknown; choices: bpe:SIZE (a SIZE of at least 260),'
      ' bytes, gpt2:FOLDER, huggingface:FOLDER'
    )


def _of_pieces(spec: str) -> str:
  """Returns the spec of the pieces alone: 'bpe:SIZE' counts the reserved ids, too."""
  kind, _, size = spec.partition(':')
  return f'bpe:{int(size) - RESERVED}' if kind == 'bpe' else spec


def _numbers(rows: np.ndarray) -> list[str]:
  return [f'number {row + 1}' for row in rows[:2].tolist()]
