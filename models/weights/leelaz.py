"""Reads and writes Leela Zero's networks: text, one line of numbers for each array, gzipped or not.

The first line is the version: 1, or 2 where the value is black's chance and not that of the player
to move (ELF OpenGo). Then, for C channels and b blocks on N x N points, each array row by row:

- each of the tower's 1 + 2 b convolutions: kernel `[C, inputs, 3, 3]`, biases, BatchNorm's means
  and variances `[C]`; the first has 18 inputs;
- the policy: a 1x1 convolution of 2 channels, likewise in four lines; weights `[N^2 + 1, 2 N^2]`
  and biases of the moves, the pass last;
- the value: a 1x1 convolution of 1 channel in four lines; weights `[256, N^2]` and biases of the
  hidden layer; weights `[256]` and bias of the value.

The network is that of `models/alphazero.py` (Silver et al. 2017) but for its inputs: 8 boards of
the player to move, 8 of the opponent, a plane of ones if black is to move and one if white is. Rows
of the board are counted from the lower edge, here from the upper one.
Source: the function `load_v1_network` and what it calls in Leela Zero's `Network.cpp`.
"""

import dataclasses
import gzip
import math
import os
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from models.alphazero import PolicyValue
from models.transformer import unboxed

VERSIONS = (1, 2)
GZIP = b'\x1f\x8b'
BOARDS, PLANES = 8, 18
EPSILON = 1e-5  # BatchNorm's, there and here
HEAD_LINES = 14
LONGEST = 1 << 26  # bytes of a line; a kernel of 512 channels has less
BLOCK_LINES = 8
# Of each of our planes the number of theirs: ours alternate between the players, board by board.
PLANE_ORDER = (*np.arange(2 * BOARDS).reshape(2, BOARDS).T.ravel().tolist(), 16, 17)
# The sizes of the heads that leelaz is compiled for.
LEELAZ_HEADS = {'policy_channels': 2, 'value_channels': 1, 'value_width': 256}
LEELAZ_SIZE = 19


@dataclasses.dataclass(frozen=True)
class NetworkSizes:
  """What a file's arrays say about its network; see the same names in `PolicyValue`."""

  size: int
  blocks: int
  channels: int
  policy_channels: int
  value_channels: int
  value_width: int

  @property
  def lines(self) -> list[tuple[str, int]]:
    """Returns what each line behind the first holds, and how many numbers."""
    points, channels = self.size**2, self.channels
    tower = [_conv_lines('the first convolution', PLANES * 9, channels)]
    for i in range(2 * self.blocks):
      tower.append(
        _conv_lines(f'convolution {i % 2 + 1} of block {i // 2}', channels * 9, channels)
      )
    return [
      *(line for conv in tower for line in conv),
      *_conv_lines("the policy's convolution", channels, self.policy_channels),
      *_dense_lines("the policy's output", points * self.policy_channels, points + 1),
      *_conv_lines("the value's convolution", channels, self.value_channels),
      *_dense_lines("the value's hidden layer", points * self.value_channels, self.value_width),
      *_dense_lines("the value's output", self.value_width, 1),
    ]


def _conv_lines(what: str, inputs: int, outputs: int) -> list[tuple[str, int]]:
  names = ('kernel', 'biases', 'means', 'variances')
  counts = (inputs * outputs, outputs, outputs, outputs)
  return [(f'the {name} of {what}', n) for name, n in zip(names, counts, strict=True)]


def _dense_lines(what: str, inputs: int, outputs: int) -> list[tuple[str, int]]:
  return [(f'the weights of {what}', inputs * outputs), (f'the biases of {what}', outputs)]


# -------- the text --------


def recognises(path: str | pathlib.Path) -> bool:
  """Returns whether a file begins as a network of Leela Zero does: a version, a line of numbers."""
  path = pathlib.Path(path)
  if not path.is_file():
    return False
  try:
    with _opened(path) as file:
      version, numbers = file.readline(16).strip(), file.readline(256).split()[:4]
    return int(version) in range(1, 10) and bool(np.array(numbers, np.float64).size)
  except (OSError, EOFError, zlib.error, ValueError):
    return False


def read(path: str | pathlib.Path) -> tuple[int, NetworkSizes, list[np.ndarray]]:
  """Returns the version, the sizes and the arrays of a file, each flat and of float32.

  Raises:
    ValueError: the file is missing, cut short, or no network of Leela Zero.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  try:
    with _opened(path) as file:
      version = _version(path, file)
      arrays = list(_arrays(path, file))
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{path}: cut short or damaged ({error})') from None
  sizes = _sizes(path, arrays)
  for i, (array, (what, count)) in enumerate(zip(arrays, sizes.lines, strict=True), 2):
    if array.size != count:
      raise ValueError(f'{path}, line {i}: holds {array.size} numbers; {what} are {count}')
    if what.startswith('the variances') and (array < 0).any():
      raise ValueError(f'{path}, line {i}: {what} should not be below 0')
  return version, sizes, arrays


def _opened(path: pathlib.Path) -> Any:
  with path.open('rb') as file:
    zipped = file.read(2) == GZIP
  return gzip.open(path) if zipped else path.open('rb')


def _version(path: pathlib.Path, file: Any) -> int:
  line = file.readline(100).strip()
  if line not in [str(version).encode() for version in VERSIONS]:
    said = ' or '.join(map(str, VERSIONS))
    raise ValueError(f'{path}, line 1: {line!r}; a network of Leela Zero begins with {said}')
  return int(line)


def _arrays(path: pathlib.Path, file: Any) -> Iterator[np.ndarray]:
  number = 2
  while line := file.readline(LONGEST):
    try:
      if len(line) == LONGEST:
        raise ValueError(f'longer than {LONGEST} bytes')
      array = np.array(line.split(), np.float64)
    except ValueError as error:
      said = ' '.join(str(error)[:200].split())
      raise ValueError(f'{path}, line {number}: not a line of numbers ({said})') from None
    if not (np.abs(array) < np.finfo(np.float32).max).all():
      raise ValueError(f'{path}, line {number}: holds a number that is not finite')
    yield array.astype(np.float32)
    number += 1


def _sizes(path: pathlib.Path, arrays: Sequence[np.ndarray]) -> NetworkSizes:
  blocks, rest = divmod(len(arrays) - 4 - HEAD_LINES, BLOCK_LINES)
  if rest or blocks < 0:
    rule = f'a network has 4, {BLOCK_LINES} for each block, and {HEAD_LINES}'
    raise ValueError(f'{path}: cut short, {len(arrays)} lines of numbers; {rule}')
  head = [array.size for array in arrays[-HEAD_LINES:]]
  channels, points = arrays[1].size, head[5] - 1
  size = math.isqrt(max(points, 0))
  if size < 2 or size**2 != points:
    rule = 'the biases of the moves should be those of a square board and the pass'
    raise ValueError(f'{path}, line {len(arrays) - HEAD_LINES + 7}: {head[5]} numbers; {rule}')
  if channels and arrays[0].size % (channels * 9) == 0 and arrays[0].size != PLANES * channels * 9:
    planes = arrays[0].size // (channels * 9)
    raise ValueError(f'{path}: a network of {planes} planes; Leela Zero has {PLANES}')
  return NetworkSizes(size, blocks, channels, head[1], head[7], head[11])


def write(path: str | pathlib.Path, arrays: Sequence[np.ndarray], version: int = 1) -> None:
  """Writes a network; gzipped if the name ends in '.gz'. It gets its name when it is complete."""
  path = pathlib.Path(path)
  unfinished = path.with_name(f'.{path.name}.unfinished')
  try:
    with gzip.open(unfinished, 'wb', 1) if path.suffix == '.gz' else unfinished.open('wb') as file:
      file.write(f'{version}\n'.encode())
      for array in arrays:
        numbers = array.astype(np.float32).ravel().tolist()
        # Of nine digits float32 makes the same number.
        file.write(' '.join([f'{x:.9g}' for x in numbers]).encode() + b'\n')
    os.replace(unfinished, path)
  finally:
    unfinished.unlink(missing_ok=True)


# -------- in --------


def from_leelaz(path: str | pathlib.Path) -> tuple[PolicyValue, int, dict[str, Any]]:
  """Returns the network of a file, the size of its board, and its variables (float32, in NumPy).

  Raises:
    ValueError: see `read`.
  """
  version, sizes, arrays = read(path)
  fields = {name: x for name, x in dataclasses.asdict(sizes).items() if name != 'size'}
  actions = sizes.size**2 + 1
  model = PolicyValue(actions, **fields, white_plane=True, black_value=version == 2)
  return model, sizes.size, to_ours(model, sizes.size, iter(arrays))


def to_ours(model: PolicyValue, size: int, arrays: Iterator[np.ndarray]) -> dict[str, Any]:
  """Returns our variables of a file's arrays."""
  params: dict[str, Any] = {}
  stats: dict[str, Any] = {}

  def conv(block: str, name: str, norm: str, window: int) -> None:
    kernel, bias, mean, var = (next(arrays) for _ in range(4))
    kernel = kernel.reshape(len(bias), -1, window, window).transpose(2, 3, 1, 0)[::-1]
    kernel = kernel[:, :, PLANE_ORDER] if name == 'stem' else kernel
    # (y + bias - mean) / std is (y - mean) / std + bias / std: so was the network trained.
    shift = bias / np.sqrt(var + np.float32(EPSILON))
    place(params, block)[name] = {'kernel': np.ascontiguousarray(kernel)}
    place(params, block)[norm] = {'scale': np.ones_like(bias), 'bias': shift}
    place(stats, block)[norm] = {'mean': mean, 'var': var}

  def dense(name: str, outputs: Sequence[int] | slice = slice(None)) -> None:
    weights, bias = next(arrays), next(arrays)
    kernel = weights.reshape(len(bias), -1)[outputs]
    if name != 'value':  # of points: theirs are `[channels, N^2]`, ours `[N^2, channels]`
      kernel = kernel.reshape(len(bias), -1, size**2)[..., flipped(size)].transpose(0, 2, 1)
    kernel = kernel.reshape(len(bias), -1).T
    params[name] = {'kernel': np.ascontiguousarray(kernel), 'bias': bias[outputs]}

  for names in tower(model.blocks):
    conv(*names, 3)
  conv('', 'policy_conv', 'policy_norm', 1)
  dense('policy', [*flipped(size), size**2])
  conv('', 'value_conv', 'value_norm', 1)
  dense('value_hidden')
  dense('value')
  return {'params': params, 'batch_stats': stats}


def tower(blocks: int) -> list[tuple[str, str, str]]:
  """Returns the tower's convolutions: the block ('' for none), and the names of layer and norm."""
  inner = [(f'block{i}', f'conv{j}', f'norm{j}') for i in range(blocks) for j in (1, 2)]
  return [('', 'stem', 'stem_norm'), *inner]


def place(tree: dict[str, Any], block: str) -> dict[str, Any]:
  """Returns the dict of a block's layers, which is made if it is missing; of '' the tree itself."""
  return tree.setdefault(block, {}) if block else tree


def flipped(size: int) -> list[int]:
  """Returns the points of a board as they are numbered from the other edge."""
  return np.arange(size**2).reshape(size, size)[::-1].ravel().tolist()


# -------- out --------


def to_leelaz(model: PolicyValue, size: int, variables: Any) -> tuple[int, list[np.ndarray]]:
  """Returns the version and the arrays of a network that sees planes of up to 8 boards.

  Auxiliary heads are left out.

  Args:
    model: the network.
    size: of its board.
    variables: its variables.

  Raises:
    ValueError: the network has heads of other sizes than leelaz, or sees more boards.
  """
  check_exportable(model)
  params, stats = (unboxed(variables[name]) for name in ('params', 'batch_stats'))
  arrays: list[np.ndarray] = []

  def conv(block: str, name: str, norm: str) -> None:
    own, moments = place(params, block), place(stats, block)[norm]
    kernel, affine = np.asarray(own[name]['kernel'], np.float32), own[norm]
    mean, var = (np.asarray(moments[each], np.float32) for each in ('mean', 'var'))
    scale, bias = (np.asarray(affine[each], np.float32) for each in ('scale', 'bias'))
    if name == 'stem':
      kernel = all_planes(model, kernel)
    # They have no scale: scaled y and mean give the same, whatever the sign.
    arrays.append((kernel * scale)[::-1].transpose(3, 2, 0, 1))
    arrays.extend((bias * np.sqrt(var + np.float32(EPSILON)), mean * scale, var))

  def dense(name: str, outputs: Sequence[int] | slice = slice(None)) -> None:
    kernel, bias = (np.asarray(params[name][each], np.float32) for each in ('kernel', 'bias'))
    if name != 'value':
      kernel = kernel.reshape(size**2, -1, len(bias))[flipped(size)].transpose(1, 0, 2)
    arrays.extend((kernel.reshape(-1, len(bias)).T[outputs], bias[outputs]))

  for names in tower(model.blocks):
    conv(*names)
  conv('', 'policy_conv', 'policy_norm')
  dense('policy', [*flipped(size), size**2])
  conv('', 'value_conv', 'value_norm')
  dense('value_hidden')
  dense('value')
  return 2 if model.black_value else 1, arrays


def check_exportable(model: PolicyValue) -> None:
  """Raises ValueError where leelaz cannot be told of the network."""
  if type(model) is not PolicyValue:
    raise ValueError(f'{type(model).__name__}: Leela Zero files can only say PolicyValue')
  for name, value in LEELAZ_HEADS.items():
    if getattr(model, name) != value:
      raise ValueError(f'model.{name}={getattr(model, name)}: leelaz knows {value} alone')


def all_planes(model: PolicyValue, kernel: np.ndarray) -> np.ndarray:
  """Returns the first kernel `[3, 3, 18, C]` in the order of their planes, 0 for what is unseen.

  Raises:
    ValueError: the network sees more than 8 boards.
  """
  colours = 2 if model.white_plane else 1
  seen = kernel.shape[2] - colours
  if seen > 2 * BOARDS:
    raise ValueError(f'a network that sees {seen // 2} boards: Leela Zero shows {BOARDS}')
  whole = np.zeros((*kernel.shape[:2], PLANES, kernel.shape[3]), np.float32)
  whole[:, :, list(PLANE_ORDER[:seen])] = kernel[:, :, :seen]
  whole[:, :, 2 * BOARDS : 2 * BOARDS + colours] = kernel[:, :, seen:]
  return whole
