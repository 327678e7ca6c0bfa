"""The config section `data=dict(name='text', ...)`: text for a language model."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from jax.sharding import NamedSharding

from data import checks, fingerprint, pipeline
from data.text import choose_tokenizer, corpus, datasets
from data.text.corpus import Tokens
from data.text.rows import PackedDocuments, RowLoader, TrainRows, Windows, fields
from data.text.tokenizer import Tokenizer, UnknownTextError

PACKINGS: dict[str, type[TrainRows]] = {
  'stream': Windows,
  'documents': PackedDocuments,
}

# Number of tokens of published sets whose tokenizer is learnt from the text.
PUBLISHED = {('tiny_shakespeare', 'characters'): 65}
GPT2_VOCAB_SIZE = 50257


@dataclasses.dataclass(frozen=True)
class TextMetadata:
  """What programs are built from: numbers of tokens in the vocabulary and in a row, and of rows."""

  vocab_size: int
  block_size: int
  batch_size: int = 64
  packing: str = 'stream'

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.AbstractSource:
    """Returns what training batches look like."""
    del seed
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    of_row = fields(self.block_size, PACKINGS[self.packing].has_segments)
    return pipeline.AbstractSource(of_row, self.batch_size, sharding)


class TextData:
  """Token ids of a text in batches; what a batch holds is said in `data.pipeline`.

  The text is encoded once and kept in the cache.

  Args:
    dataset: 'python' (the interpreter's own library), a file, a folder or the name of a TFDS set;
      files and the library have the splits 'train' and 'validation'.
    data_dir: where TFDS sets lie (else $TFDS_DATA_DIR).
    tokenizer: 'characters', 'bytes', 'gpt2:FOLDER', 'gpt2' (its folder in $GPT2_BPE_DIR, else what
      `launch.py prepare gpt2_bpe` wrote), 'bpe:SIZE' (learnt from `train_split`) or 'numbers:SIZE'
      (a text of token ids).
    block_size: T, the tokens of a row that are predicted.
    batch_size: B of training.
    eval_batch_size: B of evaluations; 0 is `batch_size`.
    train_split: sliced and joined as in TFDS, 'train[:90%]'.
    eval_split: likewise.
    val_fraction: the share of a file or a folder that is for validation.
    separator: what stands between the documents of a file; '' for a file that is one document. A
      line end may be written as backslash and n.
    pattern: which files of a folder are read.
    packing: 'stream' (windows over all documents) or 'documents' (whole ones, side by side, kept
      apart by segments).
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
    checks.at_least(2, block_size=block_size)
    checks.at_least(1, batch_size=batch_size)
    checks.at_least(0, eval_batch_size=eval_batch_size, prefetch=prefetch)
    checks.share(val_fraction=val_fraction)
    checks.choice(PACKINGS, packing=packing)
    self._dataset, self._folder = dataset, folder
    self._kept = choose_tokenizer.load_kept(tokenizer, folder)
    if self._kept is None:
      choose_tokenizer.without_text(tokenizer)  # a misspelt one fails before anything is read
    self.block_size, self.packing, self.prefetch = block_size, packing, prefetch
    self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
    self.train_split, self.eval_split, self._separator = train_split, eval_split, separator
    self._load = functools.partial(
      datasets.load,
      dataset,
      data_dir,
      val_fraction=val_fraction,
      separator=separator,
      pattern=pattern,
    )
    self.tokenizer: Tokenizer = self._kept or self._build_tokenizer(tokenizer)
    self._pool = ThreadPoolExecutor(1, 'tokens')
    self._tokens: dict[str, Tokens] = {}
    self._rows: dict[str, TrainRows] = {}
    if read or self._kept is None:
      self._check_length()
    if read:
      self._rows_of(eval_split)

  @classmethod
  def metadata(
    cls,
    dataset: str = 'python',
    tokenizer: str = 'bytes',
    block_size: int = 256,
    batch_size: int = 64,
    packing: str = 'stream',
    **rest,
  ) -> 'TextMetadata | TextData':
    """Returns what programs are built from; the text is read only if that depends on it."""
    kind, _, folder = tokenizer.partition(':')
    published = PUBLISHED.get((dataset, tokenizer))
    gpt2 = os.path.expanduser(folder or choose_tokenizer.gpt2_folder() or '')
    if published is None and kind == 'gpt2' and not os.path.isdir(gpt2):
      published = GPT2_VOCAB_SIZE
    if published is None and (fixed := choose_tokenizer.without_text(tokenizer)) is not None:
      published = fixed.vocab_size
    if published is not None:
      return TextMetadata(published, block_size, batch_size, packing)
    rest |= {'block_size': block_size, 'batch_size': batch_size, 'packing': packing}
    return cls(dataset=dataset, tokenizer=tokenizer, **rest)

  @property
  def vocab_size(self) -> int:
    """The number of tokens in the vocabulary."""
    return self.tokenizer.vocab_size

  def describe(self) -> str:
    """Returns the text, its tokens and their vocabulary in a line."""
    train, evaluation = (
      len(self.tokens(split).stream) for split in (self.train_split, self.eval_split)
    )
    return (
      f'{self._dataset}, {train:,} tokens to train on, {evaluation:,} to evaluate,'
      f' {self.tokenizer.name} of a vocabulary of {self.vocab_size:,}'
    )

  def tokens(self, split: str) -> Tokens:
    """Returns all tokens of a split; they are encoded at the first call."""
    if split not in self._tokens:
      selection = datasets.select(self._splits, split)
      try:
        self._tokens[split] = corpus.encode(selection, self.tokenizer)
      except UnknownTextError as error:
        if self._kept is None:
          raise
        raise ValueError(
          f'data.dataset={self._dataset!r}: {error} that this run began with (it keeps them in'
          f' {self._folder}); another text wants another --workdir'
        ) from error
    return self._tokens[split]

  def fingerprints(self) -> dict[str, str]:
    """Returns split -> a hash of its tokens (`data.fingerprint`), of those that were read."""
    return {
      split: fingerprint.of_arrays(tokens.stream, tokens.begins)
      for split, tokens in self._tokens.items()
    }

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.TrainSource:
    """Returns shuffled batches without end, and keeps the tokenizer in the run's folder."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    self._check_length()
    rows = self._rows_of(self.train_split)
    order = rows.order(seed)
    if self._folder is not None:
      choose_tokenizer.keep(self.tokenizer, self._folder)
    loader = RowLoader(rows, sharding, self._pool, self.prefetch)
    return pipeline.TrainSource(loader, order, self.batch_size, sharding)

  def eval_batches(self, split: str, sharding: NamedSharding) -> pipeline.EvalBatches:
    """Returns batches of every row of `split` once, in order; they can be iterated again."""
    pipeline.check_divisible('eval_batch_size', self.eval_batch_size, sharding)
    rows = self._rows_of(split)
    loader = RowLoader(rows, sharding, self._pool, self.prefetch)
    return pipeline.EvalBatches(loader, rows.eval_size, self.eval_batch_size)

  def close(self) -> None:
    """Stops the thread, and drops what was read ahead; batches handed out stay valid."""
    self._pool.shutdown(wait=True, cancel_futures=True)

  @functools.cached_property
  def _splits(self) -> Mapping[str, datasets.TextSplit]:
    return self._load()

  def _build_tokenizer(self, spec: str) -> Tokenizer:
    train, evaluation = (
      datasets.select(self._splits, split) for split in (self.train_split, self.eval_split)
    )
    return choose_tokenizer.build(spec, train, evaluation)

  def _check_length(self) -> None:
    """Raises ValueError if there is not one row to train on."""
    tokens, split = self.tokens(self.train_split), self.train_split
    size, selection = len(tokens.stream), datasets.select(self._splits, split)
    if size <= self.block_size:
      least = f'must be at most {size - 1}' if size > 2 else 'fits no row; 3 tokens are the least'
      raise ValueError(
        f'data.block_size={self.block_size}: the split {split!r} has only {size} tokens, so it'
        f' {least}'
      )
    if tokens.counts['documents'] <= selection.num_rows:
      datasets.check_separator(selection, self._separator)

  def _rows_of(self, split: str) -> TrainRows:
    if split not in self._rows:
      self._check_targets(split)
      self._rows[split] = PACKINGS[self.packing](self.tokens(split), self.block_size)
    return self._rows[split]

  def _check_targets(self, split: str) -> None:
    """Raises ValueError if no token of a split has one before it, from which it is predicted."""
    tokens = self.tokens(split)
    first, stop = tokens.spans
    longest = len(tokens.stream) if self.packing == 'stream' else int((stop - first).max())
    if longest < 2:
      where = 'it' if self.packing == 'stream' else 'each of its documents'
      raise ValueError(
        f'split {split!r}: {where} has only one token, and nothing before it to predict it from;'
        ' data.val_fraction, data.train_split and data.eval_split choose the splits'
      )
