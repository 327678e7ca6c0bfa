"""Files of tensors in the safetensors format: a length, a JSON header, and the tensors' bytes.

Reading maps the file, so that a tensor costs memory when it is used; nothing in it is executed.
"""

import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: Mapping[str, Any] = {
  'F64': np.float64,
  'F32': np.float32,
  'F16': np.float16,
  'BF16': ml_dtypes.bfloat16,
  'I64': np.int64,
  'I32': np.int32,
  'I16': np.int16,
  'I8': np.int8,
  'U8': np.uint8,
  'BOOL': np.bool_,
}
LENGTH_BYTES = 8  # of the header's length, little-endian, at the start
MOST_HEADER = 100_000_000  # bytes, as the format has it


def read_tensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """name -> array, read-only, mapped from the file.

  Raises ValueError where the file is missing, cut short or not of this format.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  size = path.stat().st_size
  if size < LENGTH_BYTES:
    raise ValueError(f'{path}: {size} bytes are no safetensors file')
  data = np.memmap(path, np.uint8, mode='r')
  header, begin = read_header(path, data)
  tensors = {name: entry for name, entry in header.items() if name != '__metadata__'}
  return {name: read_tensor(path, data[begin:], name, entry) for name, entry in tensors.items()}


def read_header(path: pathlib.Path, data: np.ndarray) -> tuple[dict[str, Any], int]:
  """The header, and where the tensors begin."""
  length = int.from_bytes(data[:LENGTH_BYTES].tobytes(), 'little')
  if length > MOST_HEADER:
    raise ValueError(f'{path}: not a safetensors file')
  end = LENGTH_BYTES + length
  if end > data.size:
    raise ValueError(f'{path}: cut short, {data.size} bytes of a header of {length}')
  try:
    header = json.loads(data[LENGTH_BYTES:end].tobytes())
  except ValueError:
    raise ValueError(f'{path}: not a safetensors file, its header is not JSON') from None
  return header, end


def read_tensor(path: pathlib.Path, data: np.ndarray, name: str, entry: Any) -> np.ndarray:
  try:
    dtype, shape, (begin, end) = entry['dtype'], tuple(entry['shape']), entry['data_offsets']
  except (KeyError, TypeError, ValueError):
    raise ValueError(f'{path}: its header does not describe {name}') from None
  if dtype not in DTYPES:
    raise ValueError(f'{path}: {name} is of dtype {dtype}; choose from {", ".join(DTYPES)}')
  if end > data.size:
    raise ValueError(f'{path}: cut short, {name} should end at byte {end} of {data.size}')
  kind = np.dtype(DTYPES[dtype])
  if end - begin != math.prod(shape) * kind.itemsize:
    raise ValueError(f'{path}: {name} of shape {shape} and {dtype} has {end - begin} bytes')
  return data[begin:end].view(kind).reshape(shape)


def write_tensors(
  path: str | pathlib.Path,
  tensors: Mapping[str, Callable[[], np.ndarray]],
  shapes: Mapping[str, tuple[int, ...]],
) -> None:
  """Writes float32 tensors, each made when its turn comes; the file appears when it is whole."""
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  end = 0
  for name in tensors:
    begin, end = end, end + 4 * math.prod(shapes[name])
    header[name] = {'dtype': 'F32', 'shape': shapes[name], 'data_offsets': [begin, end]}
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % LENGTH_BYTES)  # tensors begin at a multiple of 8
  path = pathlib.Path(path)
  unfinished = path.with_name(f'{path.name}.tmp')
  with unfinished.open('wb') as file:
    file.write(len(text).to_bytes(LENGTH_BYTES, 'little') + text)
    for name, make in tensors.items():
      file.write(np.ascontiguousarray(make(), np.float32).reshape(shapes[name]).data)
  os.replace(unfinished, path)
