"""Says what a program is compiled for, and which form of an operation it gets while it is traced.

No other file asks JAX for the platform. The plain form is what accelerators want; `models/cpu/`
holds the other.
"""

import contextlib
from collections.abc import Iterator

import jax

from models.axes import CONTEXT_AXIS, mesh_size

FORMULATIONS = ('cpu', 'plain')

# Part of the key of `jax.jit`: what was traced in one form is traced anew in the other.
_forced = jax.make_user_context(default_value=None)


def platform() -> str:
  """Returns 'cpu', 'gpu' or 'tpu': that of the active mesh's devices, or else JAX's default.

  A mesh may be of devices that this machine does not have (a topology to compile for).
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device.platform if device else jax.default_backend()


def formulation() -> str:
  """Returns which form is traced here and now, 'cpu' or 'plain'.

  Where devices share the tokens of a text it is the plain one: the CPU's makes matrices of rows
  times tokens, for which these would be gathered.
  """
  alone = mesh_size(CONTEXT_AXIS) == 1
  return _forced.value or ('cpu' if platform() == 'cpu' and alone else 'plain')


def has_cudnn() -> bool:
  """Returns whether cuDNN's kernels can be called: the program is for a GPU of NVIDIA's."""
  if platform() != 'gpu' or formulation() == 'cpu':
    return False
  device = jax.sharding.get_abstract_mesh().abstract_device
  kind = device.device_kind if device else jax.devices()[0].device_kind
  return not kind.startswith(('AMD', 'gfx'))


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
  """Forces a formulation while tracing, such as 'plain' for derivatives of higher order.

  Raises:
    ValueError: `name` is not one of FORMULATIONS.
  """
  if name not in FORMULATIONS:
    raise ValueError(f'formulation {name!r}: choose from {", ".join(FORMULATIONS)}')
  with _forced(name):
    yield
