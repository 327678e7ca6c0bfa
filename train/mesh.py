"""Lays out devices: the mesh, which axis shards what, and several processes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.errors import UserError
from train.runtime import peers

BATCH_AXES = ('data', 'fsdp')

# Logical axis -> mesh axes. A parameter's dimension takes the first mesh axis that divides it and
# that no earlier dimension of the same parameter has taken; otherwise it is replicated.
RULES: Mapping[str, tuple[str, ...]] = {
  'batch': BATCH_AXES,
  'column': ('tensor',),  # AlexNet's two columns, one a device
  'channels_in': (),
  'channels_out': ('fsdp',),
  'features_in': ('fsdp',),
  'features_out': ('tensor',),
  # Transformers: a device of `tensor` has some heads, some of the MLP and some of the vocabulary.
  'layers': (),
  'position': (),
  'width': ('fsdp',),
  'heads': ('tensor',),
  'kv_heads': ('tensor',),
  'mlp': ('tensor',),
  'vocab': ('tensor',),
}


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  context: int = 1,
  *,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Returns a mesh of `data` x `fsdp` x `tensor` x `context`; one may be -1: all that remain.

  Axes are Auto: linen's Dropout and logical rules raise under the Explicit axes that
  `jax.make_mesh` would choose.

  Args:
    data: devices that share the batch, each with a replica of the parameters.
    fsdp: devices that share the batch and hold a part of each parameter (fully sharded).
    tensor: devices that share each layer: its heads, its hidden units, its vocabulary.
    context: devices that share each text of a language model: of T tokens each has T / context,
      and in attention some heads of all T.
    devices: all devices unless given.

  Raises:
    UserError: the product of the sizes is not the number of devices, or they cannot be laid out
      so.
  """
  sizes = {'data': data, 'fsdp': fsdp, 'tensor': tensor, 'context': context}
  devices = jax.devices() if devices is None else devices
  total = len(devices)
  free = [name for name, size in sizes.items() if size == -1]
  if bad := [f'mesh.{name}={size}' for name, size in sizes.items() if size < 1 and size != -1]:
    raise UserError(
      f'{bad[0]}: a mesh axis is a positive number, or -1 for all devices that remain'
    )
  if len(free) > 1:
    raise UserError(f'mesh.{free[0]}=-1 and mesh.{free[1]}=-1: only one axis can take what remains')
  fixed = int(np.prod([size for size in sizes.values() if size != -1]))
  if total % fixed or (not free and fixed != total):
    raise UserError(
      f'mesh {_by(sizes)}: the product must be the number of devices, {total}; -1 stands for all'
      ' that remain, as in --config.mesh.data=-1'
    )
  if free:
    sizes[free[0]] = total // fixed
  auto = (AxisType.Auto,) * len(sizes)
  return Mesh(_arrange(sizes, devices), tuple(sizes), axis_types=auto)


def _by(sizes: Mapping[str, int]) -> str:
  return ' x '.join(f'{name}={size}' for name, size in sizes.items())


def _arrange(sizes: Mapping[str, int], devices: Sequence[jax.Device]) -> np.ndarray:
  """Returns the devices in the mesh's shape, near ones along the axes that talk most.

  Several slices of TPUs are joined by a slow network, over which only `data` goes: gradients once a
  step. Within a slice an axis may take a part of a torus' dimension.
  """
  # `tensor` talks most, and so has the nearest devices.
  shape = tuple(sizes[axis] for axis in ('data', 'fsdp', 'context', 'tensor'))
  slices = len({getattr(device, 'slice_index', 0) for device in devices})
  data = sizes['data']
  if data % slices:
    raise UserError(
      f'mesh {_by(sizes)}: the devices are {slices} slices, so mesh.data must be a multiple of it'
    )
  try:
    if slices > 1:
      own = (data // slices, *shape[1:])
      found = mesh_utils.create_hybrid_device_mesh(
        own, (slices, 1, 1, 1), devices, allow_split_physical_axes=True
      )
    else:
      found = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  except (AssertionError, NotImplementedError, ValueError) as error:
    kind = devices[0].device_kind
    raise UserError(
      f'mesh {_by(sizes)}: cannot be laid out on {kind}; powers of two can: {error}'
    ) from error
  return found.swapaxes(2, 3)


def share_of(count: jax.Array) -> jax.Array:
  """Returns float32 `[]`, this device's `count` over the mean of all devices'; under `shard_map`.

  Where each device draws equally many examples of its own, of which it has more or fewer than
  others, it is the weight by which each of all examples counts the same.
  """
  mean = jax.lax.pmean(count.astype(np.float32), BATCH_AXES)
  return jax.numpy.where(mean > 0, count / mean, 0.0)


def batch_shards(mesh: Mesh) -> int:
  """Returns over how many devices a batch is split."""
  return int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array whose axis 0 is the batch."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def check_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
  """Raises UserError unless every device gets the same whole number of examples a microbatch."""
  shards = batch_shards(mesh)
  if accumulate < 1 or batch_size < 1 or batch_size % (shards * accumulate):
    raise UserError(
      f'data.batch_size={batch_size}: must be a positive multiple of {shards * accumulate}'
      f' ({shards} devices on the batch axes x train.accumulate={accumulate})'
    )


def check_context(length: int, mesh: Mesh) -> None:
  """Raises UserError unless the devices of `context` can share texts of so many tokens.

  Args:
    length: tokens of a text; 0 for a task that has none.
    mesh: of the run.
  """
  devices = mesh.shape['context']
  if devices == 1 or (length and length % devices == 0):
    return
  if not length:
    raise UserError(f'mesh.context={devices}: is for texts, of which this task has none; must be 1')
  fits = (n for n in range(1, mesh.size + 1) if mesh.size % n == 0 and length % n == 0)
  raise UserError(
    f'mesh.context={devices}: must divide data.block_size={length}; of {mesh.size} devices choose'
    f' {", ".join(map(str, fits))}'
  )


@contextlib.contextmanager
def activate(mesh: Mesh) -> Iterator[None]:
  """Makes `nn.with_logical_constraint` act: outside of this it silently does nothing."""
  # The mesh for `models.axes`, the rules for the names that linen's boxes hold.
  with jax.set_mesh(mesh), logical_rules():
    yield


@contextlib.contextmanager
def on_one_device(tree: Any) -> Iterator[Any]:
  """Yields the arrays, whole, on this process's first device, which is the mesh meanwhile.

  For what is written piece by piece: sharing so little work costs more than it saves, and one
  device writes the same text whatever the mesh it was trained on.
  """
  arrays = jax.tree.map(_whole, tree)
  device = jax.tree.leaves(arrays)[0].device
  with activate(make_mesh(1, 1, 1, devices=[device])):
    yield arrays


def _whole(leaf: jax.Array) -> jax.Array:
  if not leaf.is_fully_replicated:
    everywhere = replicated(leaf.sharding.mesh)  # type: ignore[attr-defined]
    leaf = jax.jit(_same, out_shardings=everywhere)(leaf)
  return leaf.addressable_data(0)


def _same(leaf: jax.Array) -> jax.Array:
  return leaf


def logical_rules(without: str = '') -> contextlib.AbstractContextManager[None]:
  """Returns the context of RULES; inside of a `shard_map` over an axis, without that."""
  rules = [(name, tuple(x for x in axes if x != without)) for name, axes in RULES.items()]
  return nn.logical_axis_rules(rules)


def shardings(tree: Any, mesh: Mesh) -> Any:
  """Returns the sharding of each leaf of a tree, which may be boxed with logical axis names."""

  def of_leaf(leaf: Any) -> NamedSharding:
    # Counts, keys and statistics have no names.
    if not isinstance(leaf, nn.LogicallyPartitioned):
      return replicated(mesh)
    return NamedSharding(mesh, _spec(leaf.names, leaf.value.shape, mesh))

  return jax.tree.map(of_leaf, tree, is_leaf=_is_box)


def abstract(tree: Any, places: Any) -> Any:
  """Returns shapes and dtypes of a tree with shardings; of `places` a leaf may stand for many."""

  def at(place: NamedSharding, part: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), part)

  return jax.tree.map(at, places, tree)


def unbox(tree: Any) -> Any:
  """Takes the boxes with logical axis names off the leaves."""
  return jax.tree.map(lambda leaf: leaf.value if _is_box(leaf) else leaf, tree, is_leaf=_is_box)


def _is_box(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


def _spec(names: tuple[str | None, ...], shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
  taken: list[str | None] = []  # a mesh axis shards one dimension at most
  # An unknown name would silently mean "replicated", which only memory would tell.
  for name, size in zip(names, shape, strict=True):
    if name is not None and name not in RULES:
      raise ValueError(
        f'logical axis {name!r}: no rule in train/mesh.py; choose from {list(RULES)}'
      )
    fits = (
      axis
      for axis in RULES.get(name or '', ())
      if axis not in taken and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0
    )
    # JAX shards evenly or not at all: an axis that does not divide the size is passed over.
    taken.append(next(fits, None))
  return PartitionSpec(*taken)


def per_device(function: Callable, mesh: Mesh) -> Callable:
  """Returns `function` applied to each device's part of the batch, without communication.

  For work with data-dependent loops, such as search: sharded by `jit` such a loop would talk to all
  devices in each round.
  """
  spec = PartitionSpec(BATCH_AXES)
  # Each device stops when its own games are over, not when the slowest device's are.
  return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)


# -------- several processes --------


def barrier(name: str) -> None:
  """Waits until every process is here; once for each name."""
  if jax.process_count() > 1:
    peers.gather(name)
    multihost_utils.sync_global_devices(name)


def is_main() -> bool:
  """Returns whether this process writes logs and reports."""
  return jax.process_index() == 0
