"""How tokens are cut into the rows of a batch: windows of a stream, or whole documents packed.

A row is T + 1 tokens, of which the first T are seen and the last T are targets. In an epoch every
token is a target exactly once, unless none stands before it (before the first of all; before a
document's first where the tokenizer has no end-of-text token).
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from jax.sharding import NamedSharding

from data import pipeline
from data.text.corpus import Tokens


def fields(block_size: int, segments: bool = False) -> pipeline.Fields:
  """Returns what a batch holds of a row of `block_size` targets, with segments or without."""
  tokens = ((block_size + 1,), np.int32)
  own = {'tokens': tokens, **({'segments': tokens} if segments else {})}
  return pipeline.record_fields(mask=((block_size,), np.float32), **own)


class Rows(Protocol):
  """A numbered set of rows."""

  size: int  # rows of an epoch
  block_size: int  # T
  has_segments: bool  # whether documents of a row are kept apart

  def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `tokens` int32 [b, T + 1], `mask` float32 [b, T] and perhaps more, of rows [b]."""
    ...


class TrainRows(Rows, Protocol):
  """Rows of a split, to train on and to evaluate on."""

  eval_size: int  # rows that hold every target once, in order

  def __init__(self, tokens: Tokens, block_size: int): ...

  def order(self, seed: int) -> pipeline.EpochOrder:
    """Returns the order in which training reads rows."""
    ...


class Windows:
  """Windows of T targets, side by side over the stream, which is closed to a ring.

  Row `shift * size + i` is window i of those that begin at token `shift`: with another shift in
  every epoch, words are seen at other positions. A window may reach over the ends of documents, and
  over the end of the stream; the stream's first token is never a target.
  """

  has_segments = False

  def __init__(self, tokens: Tokens, block_size: int):
    self._stream, self.block_size = np.asarray(tokens.stream), block_size  # slices memmaps faster
    self.size = -(-len(tokens.stream) // block_size)  # windows around the ring
    self.eval_size = max(1, -(-(len(tokens.stream) - 1) // block_size))  # without a shift

  def order(self, seed: int) -> pipeline.EpochOrder:
    return ShiftedOrder(seed, self.size, len(self._stream))

  def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    rows = rows.astype(np.int64)  # 32 bits do not count the tokens of a large set
    tokens = np.empty((len(rows), self.block_size + 1), np.int32)  # kept in 16 bits where ids fit
    mask = np.ones((len(rows), self.block_size), np.float32)
    first = (rows // self.size + rows % self.size * self.block_size) % len(self._stream)
    inside = (first + self.block_size < len(self._stream)) & (rows % self.size < self.size - 1)
    # Window by window, which is several times as fast as gathering tokens.
    for i, begin in zip(np.flatnonzero(inside), first[inside].tolist(), strict=True):
      tokens[i] = self._stream[begin : begin + self.block_size + 1]
    if not inside.all():
      tokens[~inside], mask[~inside] = self._read_around(rows[~inside])
    return {'tokens': tokens, 'mask': mask}

  def _read_around(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    length, shift = len(self._stream), rows // self.size
    steps = (rows % self.size * self.block_size)[:, None] + np.arange(self.block_size + 1)[None]
    places = (shift[:, None] + steps) % length  # [b, T + 1]
    # Around the ring: the last window ends where the first began, or targets would count twice; the
    # stream's first token follows its last one, which says nothing about it.
    mask = (steps <= length) & (places != 0)
    return self._stream[places], mask[:, 1:]


class ShiftedOrder(pipeline.EpochOrder):
  """The order of `Windows`: a permutation for each epoch, and a shift."""

  def __init__(self, seed: int, size: int, length: int):
    """Takes the number of windows, `size`, and that of tokens, `length`."""
    super().__init__(seed, size)
    self._length = length

  def rows(self, step: int, batch_size: int) -> np.ndarray:
    """Returns int64 [batch_size], as `Windows.read` takes them."""
    windows = super().rows(step, batch_size).astype(np.int64)  # shift * size needs them
    epochs = (step * batch_size + np.arange(batch_size)) // self.size
    shifts = {epoch: self._shift(epoch) for epoch in set(epochs.tolist())}
    return windows + self.size * np.array([shifts[epoch] for epoch in epochs.tolist()])

  def _shift(self, epoch: int) -> int:
    # Not 0, with which the last window may be left without a target.
    return int(np.random.default_rng((self.seed, epoch, 1)).integers(1, self._length))


class StridedWindows:
  """Windows of T targets that move on by `stride`; the last `stride` of each count.

  In the first window all do. So a token has at least T - stride + 1 tokens before it wherever the
  stream has as many, and `stride` = T lays the windows side by side.
  """

  has_segments = False

  def __init__(self, stream: np.ndarray, block_size: int, stride: int):
    self._stream, self.block_size, self._stride = stream, block_size, stride
    # The first window, and as many strides as reach the last token.
    self.size = 1 + max(0, -(-(len(stream) - 1 - block_size) // stride))

  def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    places = rows.astype(np.int64)[:, None] * self._stride + np.arange(self.block_size + 1)[None]
    inside = places < len(self._stream)
    tokens = np.where(inside, self._stream[np.where(inside, places, 0)], 0).astype(np.int32)
    # The others are targets of the window before: here they are context.
    new = (rows == 0)[:, None] | (np.arange(self.block_size) >= self.block_size - self._stride)[
      None
    ]
    return {'tokens': tokens, 'mask': (inside[:, 1:] & new).astype(np.float32)}


class PackedDocuments:
  """Documents packed into rows, whole wherever they fit into one.

  A longer one is cut into pieces, each of which begins with the last token of the piece before.
  Best fit, the longest first (Ding et al. 2024, "Fewer Truncations Improve Language Modeling",
  section 3.1). `read` gives `segments` as well, int32 [b, T + 1]: 1, 2, ... for the documents of a
  row and 0 for the padding after them. A target that follows another document has mask 0.
  """

  has_segments = True

  def __init__(self, tokens: Tokens, block_size: int):
    self._stream, self.block_size = tokens.stream, block_size
    self._first, self._length = _pieces(*tokens.spans, block_size)
    row = best_fit(self._length, block_size + 1)
    # By row, so that a row's pieces are neighbours: `read` needs only where each row begins.
    order = np.argsort(row, kind='stable')
    self._first, self._length = self._first[order], self._length[order]
    self.size = self.eval_size = int(row.max()) + 1
    self._begins = np.searchsorted(row[order], np.arange(self.size + 1))

  def order(self, seed: int) -> pipeline.EpochOrder:
    return pipeline.EpochOrder(seed, self.size)

  def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    tokens = np.zeros((len(rows), self.block_size + 1), np.int32)
    segments = np.zeros_like(tokens)
    for i, row in enumerate(rows):
      place = 0
      pieces = range(self._begins[row], self._begins[row + 1])
      for segment, piece in enumerate(pieces, 1):
        first, length = self._first[piece], self._length[piece]
        tokens[i, place : place + length] = self._stream[first : first + length]
        segments[i, place : place + length] = segment
        place += length
    # A document's first token would be predicted from another document.
    mask = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    return {'tokens': tokens, 'mask': mask.astype(np.float32), 'segments': segments}


def _pieces(first: np.ndarray, stop: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns first token and length, at most block_size + 1, of all documents' pieces: [P], [P]."""
  # A piece of n + 1 tokens has n targets, so a document of L tokens is ceil((L - 1) / n) pieces.
  counts = np.maximum(1, -(-(stop - first - 1) // block_size))
  document = np.repeat(np.arange(len(first)), counts)
  # The number of each piece within its document: 0, 1, ... , then 0 again.
  number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
  begin = first[document] + number * block_size
  return begin, np.minimum(stop[document] - begin, block_size + 1)


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
  """Returns int64 [P], the row of each piece: the fullest with room for it, else a new one."""
  rows, count = np.zeros(len(lengths), np.int64), 0
  waiting: dict[int, list[int]] = {}  # room -> the rows that have it
  # Bit r says whether a row with room r waits: the smallest that is large enough is then found by
  # arithmetic on one integer instead of a search.
  rooms = 0
  for piece in np.argsort(-lengths, kind='stable').tolist():
    length = int(lengths[piece])
    if fits := rooms >> length:
      room = length + (fits & -fits).bit_length() - 1  # the lowest bit that is set
      row = waiting[room].pop()
      rooms ^= 0 if waiting[room] else 1 << room
    else:
      row, room, count = count, capacity, count + 1
    rows[piece] = row
    if room > length:
      waiting.setdefault(room - length, []).append(row)
      rooms |= 1 << room - length
  return rows


class RowLoader:
  """Reads rows in a thread, `prefetch` batches ahead; a process reads its own rows only.

  A batch has what `Rows.read` gives, and `index`, the row's number in the epoch.
  """

  def __init__(
    self, rows: Rows, sharding: NamedSharding, pool: ThreadPoolExecutor, prefetch: int = 0
  ):
    self._rows, self._sharding, self._pool, self.prefetch = rows, sharding, pool, prefetch
    self.fields = fields(rows.block_size, rows.has_segments)

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Pending:
    del seed
    mine = pipeline.local_positions(self._sharding, len(rows))
    reading = self._pool.submit(self._read, rows[mine])
    return lambda: pipeline.to_global(reading.result(), mine, self._sharding, len(rows))

  def _read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    real = rows >= 0
    # Padding reads row 0 and is masked: no case of its own for rows that do not exist.
    local = self._rows.read(np.where(real, rows, 0))
    local['mask'] *= real[:, None]
    index = np.where(real, rows % self._rows.size, -1).astype(np.int32)
    return {**local, 'index': index}
