"""Short hashes of the data that a run reads: other data under the same name have another.

They depend on contents, not on where files lie or when they were written. Up to `MOST` bytes are
read: all of a small set, and of a larger one blocks that are spread evenly over it.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

BLOCK = 1 << 16
MOST = 1 << 26
FILES = 1000  # of which size and contents count, where there are more; the names of all do


def of_files(files: Sequence[str]) -> str:
  """Returns the hash of files: names below their common folder, sizes, contents."""
  digest = hashlib.sha256()
  root = os.path.commonpath(files) if files else ''
  for path in files:
    digest.update(os.fsencode(path[len(root) :]) + b'\0')
  chosen = [files[row] for row in spread(len(files), FILES)]
  sizes = [os.path.getsize(path) if os.path.exists(path) else 0 for path in chosen]
  share = min(1.0, MOST / max(1, sum(sizes)))
  for path, size in zip(chosen, sizes, strict=True):
    digest.update(b'%d\0' % size)
    # One that cannot be read counts by its name; whoever needs it says so.
    with contextlib.suppress(OSError), open(path, 'rb') as file:
      for block in _blocks(size, int(size * share)):
        file.seek(block.start)
        digest.update(file.read(BLOCK))
  return digest.hexdigest()[:16]


def of_arrays(*arrays: np.ndarray) -> str:
  """Returns the hash of contiguous arrays: dtypes, shapes, contents."""
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(f'{array.dtype.str}{array.shape}'.encode())
    flat = array.reshape(-1).view(np.uint8)
    for block in _blocks(flat.size, MOST):
      digest.update(flat[block].tobytes())
  return digest.hexdigest()[:16]


def spread(size: int, most: int) -> list[int]:
  """Returns all of range(size), or `most` of it, spread evenly."""
  return np.linspace(0, size - 1, min(size, most)).astype(int).tolist()


def _blocks(size: int, most: int) -> Iterator[slice]:
  """Yields slices of `size` bytes, which cover them all where `most` allows it."""
  count = -(-min(size, max(most, 1)) // BLOCK)
  for start in np.linspace(0, max(0, size - BLOCK), count).astype(int).tolist():
    yield slice(start, min(start + BLOCK, size))
