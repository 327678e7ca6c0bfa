"""Threads or processes that read and decode the images of a batch.

Decoding a JPEG lets other threads run, but what Python itself does for an image does not: threads
keep about ten cores busy, and no more. Processes have no such limit. Each has the splits from the
start, and writes pixels into memory that it shares with the one that trains.
"""

import contextlib
import mmap
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import IO, NamedTuple

import numpy as np

from data.images.decode import Op
from data.images.records import Pixels, Records, decode_rows
from data.remarks import Remarks

RECORDS_PER_TASK = 8  # decoded by one thread or process in one go

# What asks a run to save and stop goes to all of its processes, and it wants batches till then.
SIGNALS = ('SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU')

Seed = tuple[int, ...]


class Decoding(NamedTuple):
  """What is decoded: a split by its name, the operations, the shape [H, W, C] that they lead to."""

  split: str
  ops: Sequence[Op]
  shape: tuple[int, int, int]


class Threads:
  """Decodes in threads of this process."""

  def __init__(self, splits: Mapping[str, Records], count: int):
    self._splits = splits
    self.pool = ThreadPoolExecutor(count, 'decode')

  def start(
    self, what: Decoding, rows: Sequence[int], seeds: Sequence[Seed], size: int, remarks: Remarks
  ) -> Callable[[], Pixels]:
    """Begins to decode `rows`, each with what is drawn from its seed.

    Returns a function that waits for the pixels: images [size, H, W, C] and labels [size], 0 behind
    those of the rows.
    """
    images, labels = np.zeros((size, *what.shape), np.uint8), np.zeros(size, np.int32)

    def decode(part: slice) -> None:
      rngs = [np.random.default_rng(seed) for seed in seeds[part]]
      into = images[part], labels[part]
      decode_rows(self._splits[what.split], rows[part], what.ops, rngs, *into, remarks)

    tasks = [self.pool.submit(decode, part) for part in _parts(len(rows))]

    def wait() -> Pixels:
      for task in tasks:
        task.result()
      return images, labels

    return wait

  def close(self) -> None:
    """Waits for what is being decoded, and ends the threads."""
    self.pool.shutdown(wait=True, cancel_futures=True)


class Processes:
  """Decodes in processes of their own; Linux alone has memory that is shared in this way."""

  def __init__(self, splits: Mapping[str, Records], count: int):
    if not hasattr(os, 'memfd_create'):
      raise ValueError(f'data.processes={count}: needs Linux; data.workers are threads')
    # Not forked: the devices' runtime has threads, whose locks a fork would leave closed.
    spawn = multiprocessing.get_context('spawn')
    self._count = count
    self._pool = ProcessPoolExecutor(count, spawn, _begin, (dict(splits),))

  def start(
    self, what: Decoding, rows: Sequence[int], seeds: Sequence[Seed], size: int, remarks: Remarks
  ) -> Callable[[], Pixels]:
    """Begins to decode rows, as `Threads.start`."""
    # Gone with the last process that has it open, and not bounded as /dev/shm is in containers.
    file = open(os.memfd_create('images'), 'r+b')  # noqa: SIM115
    file.truncate(max(1, size * int(np.prod(what.shape))))
    images, labels = _shared(file, (size, *what.shape)), np.zeros(size, np.int32)

    def submit(part: slice) -> Future:
      place = f'/proc/{os.getpid()}/fd/{file.fileno()}'
      task = self._pool.submit(_decode, what, rows[part], seeds[part], place, size, part.start)
      # Open until the last task is done, so that the number stands for no other file.
      task.add_done_callback(lambda _: file)
      return task

    def wait() -> Pixels:
      with self._told():
        for part, task in tasks:
          labels[part], found = task.result()
          for kind, (count, examples) in found.items():
            remarks.add(kind, *examples, count=count)
      return images, labels

    with self._told():
      tasks = [(part, submit(part)) for part in _parts(len(rows))]
    return wait

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    try:
      yield
    except BrokenProcessPool as error:
      raise ValueError(
        f'data.processes={self._count}: one of the processes that decode images has ended; perhaps '
        'it was killed for want of memory, of which fewer need less'
      ) from error

  def close(self) -> None:
    """Waits for what is being decoded, and ends the processes."""
    self._pool.shutdown(wait=True, cancel_futures=True)


def _parts(size: int) -> list[slice]:
  """Returns the tasks into which so many rows are cut."""
  return [slice(i, min(i + RECORDS_PER_TASK, size)) for i in range(0, size, RECORDS_PER_TASK)]


def _shared(file: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
  """Returns a file's memory as an array, for as long as which it stays mapped."""
  return np.ndarray(shape, np.uint8, mmap.mmap(file.fileno(), 0))


# -------- in a worker process --------

_splits: dict[str, Records] = {}


def _begin(splits: dict[str, Records]) -> None:
  """Begins a worker: it ends with its parent, and leaves signals to it."""
  _splits.update(splits)
  for name in SIGNALS:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  assert parent is not None
  parent.join()
  os._exit(1)


def _decode(
  what: Decoding, rows: Sequence[int], seeds: Sequence[Seed], place: str, size: int, first: int
) -> tuple[np.ndarray, dict]:
  """Decodes rows into the shared images at `first`; returns labels and what `Remarks` found."""
  with open(place, 'r+b') as file:
    images = _shared(file, (size, *what.shape))[first : first + len(rows)]
  labels, remarks = np.zeros(len(rows), np.int32), Remarks('')
  rngs = [np.random.default_rng(seed) for seed in seeds]
  decode_rows(_splits[what.split], rows, what.ops, rngs, images, labels, remarks)
  return labels, remarks.found
