"""Text for the training loop of a language model, and for its evaluations."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from jax.sharding import NamedSharding

from data import pipeline
from data.text import datasets, shards, tokenizers
from data.text.rows import Packed, Reader, Rows, ShiftedOrder, Windows
from data.text.shards import Tokens
from data.text.tokens import Tokenizer

PACKINGS = ('stream', 'documents')

# Tokenizers of published sets that need the texts, by their number of tokens.
PUBLISHED = {('tiny_shakespeare', 'characters'): 65}
GPT2_TOKENS = 50257


@dataclasses.dataclass(frozen=True)
class Outline:
  """What a network has to know, of data that nobody reads."""

  vocab_size: int
  block_size: int


class TextData:
  """The config section of `data=dict(name='text', ...)`.

  `dataset` is 'python' (the interpreter's own library), a file, a folder or a TFDS name; files and
  the library have the splits 'train' and 'validation', divided by `val_fraction`, `separator` and
  `pattern` as `text_sets.load` says; splits are sliced and joined as in TFDS, 'train[:90%]'.
  `tokenizer` is 'characters', 'bytes', 'gpt2:FOLDER', 'gpt2' (its folder in $GPT2_BPE_DIR),
  'bpe:SIZE', learnt from `train_split`, or 'numbers:SIZE' (a text of token numbers). `block_size`
  tokens are predicted a row, `packing` is 'stream' (windows) or 'documents' (whole ones, side by
  side, kept apart by segments). `eval_batch_size` 0 is `batch_size`, `prefetch` counts batches.
  Raises ValueError on what does not fit together or is not there.

  `folder` is the run's own, where the tokenizer is kept once training begins. One that is there is
  the one that is used; with `read=False` nothing of the dataset is then read until it is needed.

  Texts are encoded once and kept in the cache. Batches are global arrays, sharded over axis 0:

    {'tokens': int32 [B, T + 1], 'mask': float32 [B, T] 1 where tokens[:, 1:] is to be predicted,
     'segments': int32 [B, T + 1] (for 'documents'; 0 is padding), 'index': int32 [B] the row's
     number in the epoch or -1 for a row of padding}
  """

  def __init__(
    self,
    dataset: str = 'python',
    data_dir: str | None = None,
    tokenizer: str = 'bytes',
    block_size: int = 256,
    batch_size: int = 64,
    eval_batch_size: int = 0,
    train_split: str = 'train',
    eval_split: str = 'validation',
    val_fraction: float = 0.1,
    separator: str = '',
    pattern: str = '**/*',
    packing: str = 'stream',
    prefetch: int = 2,
    *,
    folder: str | None = None,
    read: bool = True,
  ):
    _check_numbers(block_size, batch_size, eval_batch_size, val_fraction, prefetch)
    if packing not in PACKINGS:
      raise ValueError(f'data.packing={packing!r}: unknown; choices: {", ".join(PACKINGS)}')
    self._dataset, self._folder = dataset, folder
    self._kept = shards.kept(tokenizer, folder)
    if self._kept is None:
      shards.without_text(tokenizer)  # a misspelt one should fail before anything is read
    self.block_size, self.packing, self.prefetch = block_size, packing, prefetch
    self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
    self.train_split, self.eval_split = train_split, eval_split
    cut = {'val_fraction': val_fraction, 'separator': separator, 'pattern': pattern}
    self._load = functools.partial(datasets.load, dataset, data_dir, **cut)
    self.tokenizer = self._kept or self._make(tokenizer)
    self._pool = ThreadPoolExecutor(1, 'tokens')
    self._tokens: dict[str, Tokens] = {}
    self._rows: dict[str, Rows] = {}
    if read or self._kept is None:
      self._check_length()
    if read and self._kept is not None:
      self.tokens(eval_split)  # which may hold what the tokenizer does not know

  @classmethod
  def outline(
    cls,
    dataset: str = 'python',
    tokenizer: str = 'bytes',
    block_size: int = 256,
    **rest,
  ) -> 'Outline | TextData':
    """As much as can be said without the texts; where that is not enough, all of it."""
    kind, _, size = tokenizer.partition(':')
    published = PUBLISHED.get((dataset, tokenizer))
    if published is None and kind == 'gpt2' and not os.path.isdir(_gpt2_folder(tokenizer)):
      published = GPT2_TOKENS
    if published is None and (fixed := shards.without_text(tokenizer)) is not None:
      published = fixed.vocab_size
    if published is None and kind == 'bpe':
      published = int(size)
    if published is not None:
      return Outline(published, block_size)
    return cls(dataset=dataset, tokenizer=tokenizer, block_size=block_size, **rest)

  @property
  def vocab_size(self) -> int:
    return self.tokenizer.vocab_size

  def tokens(self, split: str) -> Tokens:
    """All of a split in one stream, and how much text it is; encoded at the first call."""
    if split not in self._tokens:
      used = shards.parts(self._splits, split)
      try:
        self._tokens[split] = shards.encode(used, self.tokenizer)
      except tokenizers.Unknown as error:
        if self._kept is None:
          raise
        raise ValueError(
          f'data.dataset={self._dataset!r}: {error} that this run began with (it keeps them in'
          f' {self._folder}); another text wants another --workdir'
        ) from error
    return self._tokens[split]

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.TrainSource:
    """Shuffled batches without end; that of a step depends on `seed` and the step alone."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    if seed < 0:
      raise ValueError(f'seed={seed}: must be at least 0')
    self._check_length()
    if self._folder is not None:
      shards.keep(self.tokenizer, self._folder)
    rows = self._rows_of(self.train_split)
    order = pipeline.Order(seed, rows.size)
    if isinstance(rows, Windows):
      order = ShiftedOrder(seed, rows, len(self.tokens(self.train_split).stream))
    feeder = Reader(rows, sharding, self._pool, self.prefetch)
    return pipeline.TrainSource(feeder, order, self.batch_size)

  def eval_batches(self, split: str, sharding: NamedSharding) -> pipeline.EvalBatches:
    """Every row of `split` once, in order; can be iterated again."""
    pipeline.check_divisible('eval_batch_size', self.eval_batch_size, sharding)
    rows = self._rows_of(split)
    size = rows.size_in_order if isinstance(rows, Windows) else rows.size
    feeder = Reader(rows, sharding, self._pool, self.prefetch)
    return pipeline.EvalBatches(feeder, size, self.eval_batch_size)

  def close(self) -> None:
    """Drops what was read ahead; the batches handed out stay good."""
    self._pool.shutdown(wait=True, cancel_futures=True)

  @functools.cached_property
  def _splits(self) -> Mapping[str, datasets.Texts]:
    return self._load()

  def _make(self, tokenizer: str) -> Tokenizer:
    train, held_out = (
      shards.parts(self._splits, split) for split in (self.train_split, self.eval_split)
    )
    return shards.tokenizer(tokenizer, train, held_out)

  def _check_length(self) -> None:
    """Raises ValueError if there is not one row to train on."""
    size, split = len(self.tokens(self.train_split).stream), self.train_split
    if size <= self.block_size:
      raise ValueError(
        f'data.block_size={self.block_size}: the split {split!r} has only {size} tokens, so it must'
        f' be at most {size - 1}'
      )

  def _rows_of(self, split: str) -> Rows:
    if split not in self._rows:
      kind = Windows if self.packing == 'stream' else Packed
      self._rows[split] = kind(self.tokens(split), self.block_size)
    return self._rows[split]


def _gpt2_folder(tokenizer: str) -> str:
  folder = tokenizer.partition(':')[2] or os.environ.get('GPT2_BPE_DIR', '')
  return os.path.expanduser(folder)


def _check_numbers(
  block_size: int, batch_size: int, eval_batch_size: int, val_fraction: float, prefetch: int
) -> None:
  """Raises ValueError on a number that is too small, or a share that leaves nothing."""
  least = {'block_size': (block_size, 2), 'batch_size': (batch_size, 1)}
  least |= {'eval_batch_size': (eval_batch_size, 0), 'prefetch': (prefetch, 0)}
  for name, (value, lowest) in least.items():
    if value < lowest:
      raise ValueError(f'data.{name}={value}: must be at least {lowest}')
  if not 0 < val_fraction < 1:
    raise ValueError(f'data.val_fraction={val_fraction}: must be between 0 and 1')
