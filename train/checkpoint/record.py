"""What a checkpoint says about itself: the shape of every array, and a checksum of its value."""

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Leaves = dict[str, list]  # 'params/conv1/kernel' -> [dtype, shape, fingerprint]

_UINT = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}  # bytes an element -> word


class Damaged(ValueError):
  """What was read is not what was written; the message says where."""


# -------- arrays --------


def leaves(tree: Any) -> Iterator[tuple[str, Any]]:
  """Yields the path ('params/conv1/kernel') and the value of each leaf."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path, simple=True, separator='/'), leaf


def arrays(tree: Any) -> Any:
  """Returns the tree with numbers as NumPy arrays, of the dtypes that JAX gives them.

  Raises ValueError naming a leaf that is neither array nor number, or needs 64 bits.
  """
  for path, leaf in leaves(tree):
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
      raise ValueError(f'{path}: a {type(leaf).__name__}; a checkpoint holds arrays and numbers')
  return jax.tree_util.tree_map_with_path(_array, tree)


def _array(path: tuple, leaf: Any) -> Any:
  if isinstance(leaf, jax.Array):
    return leaf
  value = np.asarray(leaf)
  dtype = jax.dtypes.canonicalize_dtype(value.dtype)
  if isinstance(leaf, float):
    return value.astype(dtype)
  if not np.array_equal(value.astype(dtype), value, equal_nan=value.dtype.kind == 'f'):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    raise ValueError(f'{name}: {value.dtype} values that {dtype} cannot hold; see jax_enable_x64')
  return value.astype(dtype)


def describe(items: Mapping[str, Any]) -> Leaves:
  """Returns dtype, shape and fingerprint by path; waits for the arrays one after another.

  One after another, as too many programs in flight lock simulated devices up (`runtime.ahead`).
  """
  return {path: [*_kind(leaf), int(fingerprint(leaf))] for path, leaf in leaves(dict(items))}


def check_values(stored: Leaves, items: Mapping[str, Any]) -> None:
  """Raises Damaged naming the leaves of `items` that are not as described."""
  bad = [path for path, kind in describe(items).items() if stored[path] != kind]
  if bad:
    raise Damaged(f'checksum of {some(bad)}')


def check_structure(stored: Leaves, wanted: Mapping[str, Any]) -> None:
  """Raises ValueError unless the items in `wanted` have the stored names, shapes and dtypes."""
  ours = {path: _kind(leaf) for path, leaf in leaves(dict(wanted))}
  theirs = {path: kind[:2] for path, kind in stored.items() if path.split('/')[0] in wanted}
  differences = {
    'only in the checkpoint': [path for path in theirs if path not in ours],
    'only in this run': [path for path in ours if path not in theirs],
    'of another shape or dtype': [
      f'{path} ({_name(theirs[path])} in the checkpoint, {_name(kind)} in this run)'
      for path, kind in ours.items()
      if path in theirs and theirs[path] != kind
    ],
  }
  if any(differences.values()):
    raise ValueError('; '.join(f'{what}: {some(x)}' for what, x in differences.items() if x))


def _kind(leaf: Any) -> list:
  return [str(leaf.dtype), list(leaf.shape)]


def _name(kind: list) -> str:
  return f'{kind[0]}{kind[1]}'


def some(names: list[str], most: int = 4) -> str:
  """Returns the first few names, and how many more there are."""
  rest = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + rest


def full(tree: Any) -> bool:
  """Returns whether there is an array: orbax takes no item without one."""
  return any(True for _ in leaves(tree))


def written(tree: Any) -> Any:
  """Removes arrays of no elements, which orbax refuses."""
  return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def or_empty(target: jax.ShapeDtypeStruct, found: jax.Array | None) -> jax.Array:
  """Returns what was read, or the array of no elements that `written` had removed."""
  if found is None:
    return jnp.zeros(target.shape, target.dtype, device=target.sharding)
  return found


def nested(stored: Mapping[str, list]) -> dict[str, Any]:
  """Returns the model's items as a record describes them, 'params/conv1/kernel' as nested dicts."""
  items: dict[str, Any] = {}
  for path, (dtype, shape, _) in stored.items():
    *folders, name = path.split('/')
    if folders and folders[0] == 'train':
      continue
    node = items
    for folder in folders:
      node = node.setdefault(folder, {})
    node[name] = target(jax.ShapeDtypeStruct(shape, dtype))
  return items


def target(leaf: Any) -> jax.ShapeDtypeStruct:
  """Returns a target with a sharding; without one orbax looks for the devices that saved."""
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  sharding = getattr(leaf, 'sharding', None) or here
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


# -------- the record --------


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the record as JSON will give it back, with a checksum of its text."""
  text = json.dumps(record, sort_keys=True)
  return {**json.loads(text), 'crc32': zlib.crc32(text.encode())}


def unseal(record: Any) -> dict[str, Any]:
  """Raises Damaged if the record is not as it was sealed."""
  body = {key: value for key, value in dict(record).items() if key != 'crc32'}
  if seal(body)['crc32'] != record.get('crc32'):
    raise Damaged('checksum of the record')
  return body


# -------- the checksum of an array --------


@jax.jit
def fingerprint(x: jax.Array) -> jax.Array:
  """Hashes an array of any shape and dtype, or typed PRNG keys, to uint32 `[]`, where it lives.

  It depends on the bits alone, not on the devices that hold them: sums modulo 2**32 are exact in
  any order. Each word is hashed together with its position, by a bijection, and the hashes are
  summed: a change within one word is always seen, any other change but once in 2**32.
  """
  words = _words(x)
  position = jnp.zeros(words.shape, np.uint32)
  stride = 1
  for axis in reversed(range(words.ndim)):  # no reshape: it would gather a sharded array
    iota = lax.broadcasted_iota(np.uint32, words.shape, axis)
    position = position + iota * np.uint32(stride % 2**32)
    stride *= words.shape[axis]
  return jnp.sum(_mix(words + position * np.uint32(0x9E3779B9)), dtype=np.uint32)


def _words(x: jax.Array) -> jax.Array:
  """Returns the bits of x as uint32 `[..., words an element]`."""
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  if jnp.iscomplexobj(x):
    x = jnp.stack([x.real, x.imag], axis=-1)
  if x.dtype == bool:
    x = x.astype(np.uint8)
  words = lax.bitcast_convert_type(x, _UINT[x.dtype.itemsize])
  return words.astype(np.uint32)[..., None]


def _mix(h: jax.Array) -> jax.Array:
  """Applies MurmurHash3's finaliser: a bijection of words; every bit depends on all."""
  h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
  h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
  return h ^ (h >> 16)
