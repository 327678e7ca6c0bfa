"""Reads a pickle of tensors by carrying out the few operations that make one, and no other.

A pickle is a program that may call anything in Python. Nothing is called here: tensors, parameters
and dicts are made by name, and what else a file names is refused.
"""

import dataclasses
import math
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

import ml_dtypes
import numpy as np

# torch's storages -> the names that safetensors has for their types, and NumPy's.
STORAGES: Mapping[str, tuple[str, Any]] = {
  'DoubleStorage': ('F64', '<f8'),
  'FloatStorage': ('F32', '<f4'),
  'HalfStorage': ('F16', '<f2'),
  'BFloat16Storage': ('BF16', ml_dtypes.bfloat16),
  'LongStorage': ('I64', '<i8'),
  'IntStorage': ('I32', '<i4'),
  'ShortStorage': ('I16', '<i2'),
  'CharStorage': ('I8', 'i1'),
  'ByteStorage': ('U8', 'u1'),
  'BoolStorage': ('BOOL', '?'),
}


class Refused(ValueError):
  """What a file asks for and is not done."""


@dataclasses.dataclass(frozen=True)
class Storage:
  """Numbers in a row.

  dtype: as safetensors names it. kind: NumPy's. size: how many. key: of their bytes in the file.
  """

  dtype: str
  kind: np.dtype
  size: int
  key: str


@dataclasses.dataclass(frozen=True)
class TensorView:
  """A tensor as torch describes it: a part of a storage, strides counted in numbers."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def __post_init__(self):
    numbers = (self.offset, *self.shape, *self.strides)
    if not all(type(x) is int and x >= 0 for x in numbers):
      raise Refused('holds a tensor whose shape is none')
    steps = zip(self.shape, self.strides, strict=True)
    last = self.offset + sum((n - 1) * step for n, step in steps)
    count = math.prod(self.shape)
    # A small storage may be shown as a tensor of any size, which would then be read into memory.
    if count > self.storage.size or (count and last >= self.storage.size):
      raise Refused('holds a tensor that is larger than its storage')


def load(file: IO[bytes], storages: dict[str, Storage] | None = None) -> Any:
  """Returns what the pickle at the file's place makes of dicts, lists, tuples, numbers, tensors.

  Args:
    file: where it begins.
    storages: is given every storage that it names, by its key.

  Raises:
    Refused: it asks for something else.
    Exception: of any kind, for damaged bytes.
  """
  machine = _Machine({} if storages is None else storages)
  for opcode, argument, _ in pickletools.genops(file):
    if opcode.name == 'STOP':
      return machine.pop()
    if opcode.name not in OPERATIONS:
      raise Refused(f'asks for the pickle operation {opcode.name}, which no tensor needs')
    OPERATIONS[opcode.name](machine, argument)
  raise AssertionError  # genops raises where there is no STOP


# -------- what a file may name --------


def _dict(pairs: Any = ()) -> dict[Any, Any]:
  made: dict[Any, Any] = {}
  for key, value in pairs:
    _set(made, key, value)
  return made


def _set(target: dict[Any, Any], key: Any, value: Any) -> None:
  # The hash of tuples in tuples in tuples can take for ever.
  if type(target) is not dict or type(key) not in (str, int):
    raise Refused('holds a dict with keys that are neither texts nor numbers')
  target[key] = value


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, *rest: Any) -> TensorView:
  del rest  # whether it is trained, hooks
  if not isinstance(storage, Storage):
    raise Refused('holds a tensor without a storage')
  return TensorView(storage, offset, tuple(shape), tuple(strides))


GLOBALS: Mapping[str, Any] = {
  'collections OrderedDict': _dict,
  'argparse Namespace': _dict,  # settings, beside the weights in many a checkpoint
  'torch._utils _rebuild_tensor': _tensor,
  'torch._utils _rebuild_tensor_v2': _tensor,
  'torch._utils _rebuild_parameter': lambda tensor, *rest: tensor,
  **{f'torch {name}': each for name, each in STORAGES.items()},
}


# -------- the machine --------


class _Machine:
  """The stack of a pickle, the stacks below its marks, and its memo."""

  def __init__(self, storages: dict[str, Storage]):
    self.storages = storages
    self.stack: list[Any] = []
    self.below: list[list[Any]] = []
    self.memo: dict[int, Any] = {}

  def push(self, value: Any) -> None:
    self.stack.append(value)

  def pop(self) -> Any:
    return self.stack.pop()

  def pop_many(self, count: int) -> tuple[Any, ...]:
    return tuple(reversed([self.pop() for _ in range(count)]))

  def mark(self) -> None:
    self.below.append(self.stack)
    self.stack = []

  def pop_to_mark(self) -> list[Any]:
    items, self.stack = self.stack, self.below.pop()
    return items

  def remember(self, number: int | None) -> None:
    self.memo[len(self.memo) if number is None else number] = self.stack[-1]

  def name(self, name: str) -> None:
    if name not in GLOBALS:
      wanted = name.replace(' ', '.')
      raise Refused(
        f'asks for {wanted[:60]!r}, which is not run; only tensors are read, so that a whole model'
        ' is to be saved as its state_dict()'
      )
    self.push(GLOBALS[name])

  def call(self) -> None:
    function, arguments = self.pop_many(2)
    if not callable(function):
      raise Refused('calls what is no function')
    self.push(function(*arguments))

  def extend(self, items: list[Any]) -> None:
    if type(self.stack[-1]) is not list:
      raise Refused('appends to what is no list')
    self.stack[-1].extend(items)

  def set_items(self, items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
      _set(self.stack[-1], key, value)

  def storage(self) -> None:
    """Pushes the storage that the tuple ('storage', type, key, device, size) names."""
    kind, (dtype, numpy_type), key, _, size, *view = self.pop()
    if kind != 'storage' or type(key) is not str or type(size) is not int or any(view):
      raise Refused('names a storage in a way that is not known')
    self.storages[key] = Storage(dtype, np.dtype(numpy_type), size, key)
    self.push(self.storages[key])


def _literal(machine: _Machine, argument: Any) -> None:
  machine.push(argument)


LITERALS = (
  *('BININT', 'BININT1', 'BININT2', 'INT', 'LONG', 'LONG1', 'LONG4', 'BINFLOAT', 'FLOAT'),
  *('BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'UNICODE', 'BINSTRING', 'SHORT_BINSTRING'),
)
OPERATIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
  **dict.fromkeys(LITERALS, _literal),
  **dict.fromkeys(('PROTO', 'FRAME'), lambda machine, _: None),
  'NONE': lambda machine, _: machine.push(None),
  'NEWTRUE': lambda machine, _: machine.push(True),
  'NEWFALSE': lambda machine, _: machine.push(False),
  'EMPTY_TUPLE': lambda machine, _: machine.push(()),
  'EMPTY_LIST': lambda machine, _: machine.push([]),
  'EMPTY_DICT': lambda machine, _: machine.push({}),
  'MARK': lambda machine, _: machine.mark(),
  'TUPLE': lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
  'TUPLE1': lambda machine, _: machine.push(machine.pop_many(1)),
  'TUPLE2': lambda machine, _: machine.push(machine.pop_many(2)),
  'TUPLE3': lambda machine, _: machine.push(machine.pop_many(3)),
  'LIST': lambda machine, _: machine.push(machine.pop_to_mark()),
  'APPEND': lambda machine, _: machine.extend([machine.pop()]),
  'APPENDS': lambda machine, _: machine.extend(machine.pop_to_mark()),
  'SETITEM': lambda machine, _: machine.set_items(list(machine.pop_many(2))),
  'SETITEMS': lambda machine, _: machine.set_items(machine.pop_to_mark()),
  **dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'), _Machine.remember),
  **dict.fromkeys(
    ('GET', 'BINGET', 'LONG_BINGET'), lambda machine, number: machine.push(machine.memo[number])
  ),
  'GLOBAL': _Machine.name,
  'STACK_GLOBAL': lambda machine, _: machine.name(' '.join(machine.pop_many(2))),
  **dict.fromkeys(('REDUCE', 'NEWOBJ'), lambda machine, _: machine.call()),
  'BUILD': lambda machine, _: machine.pop(),  # attributes, such as a state dict's _metadata
  'BINPERSID': lambda machine, _: machine.storage(),
}
