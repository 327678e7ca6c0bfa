"""The hardware that a program is compiled for: devices that this machine need not have.

The compilers are in the packages: libtpu holds that of TPUs, JAX's CUDA plugin that of GPUs, which
needs a description of the card (`targets/`, XLA's GpuTargetConfigProto as text).
"""

import dataclasses
import importlib.util
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from train.errors import UserError

TARGETS = pathlib.Path(__file__).parent / 'targets'
EXAMPLES = 'v5e:4x4, v5p:4x4x8, v6e:16x16, 2x v5e:4x4, h100:8, 4x h200:8, cpu:64'
# libtpu looks for the machine that it runs on, and takes a lock: there is none to find or to share.
LIBTPU = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """What one device has, by its data sheet.

  Attributes:
    platform: JAX's name of it, 'tpu', 'gpu' or 'cpu'.
    memory: bytes that a program can have. Of a GPU JAX takes 75 %, unless
      XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
    bandwidth: of that memory, bytes/s.
    links: to the devices of its slice or host, bytes/s, all links in one direction.
    network: to other slices or hosts, its share of the host's network, bytes/s; clusters differ.
  """

  platform: str
  memory: float
  bandwidth: float
  links: float
  network: float


GIB = 2**30
# Google's Cloud TPU documentation (memory as libtpu reports it), NVIDIA's data sheets with 400
# Gbit/s of InfiniBand a GPU; of hosts with TPUs 200 Gbit/s for 8 chips, 4 of a v5p.
CHIPS = {
  'v5e': Chip('tpu', 15.75 * GIB, 819e9, 200e9, 3.1e9),
  'v5p': Chip('tpu', 95.74 * GIB, 2765e9, 600e9, 6.2e9),
  'v6e': Chip('tpu', 31.25 * GIB, 1640e9, 400e9, 3.1e9),
  'h100': Chip('gpu', 0.75 * 84929347584, 3352e9, 450e9, 50e9),
  'h200': Chip('gpu', 0.75 * 150754820096, 4800e9, 450e9, 50e9),
  'cpu': Chip('cpu', 4 * GIB, 20e9, 10e9, 1e9),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices to compile for.

  Attributes:
    text: as the user gave it.
    chip: what each has.
    devices: of JAX, in its order.
    groups: slices of TPUs, or hosts of GPUs: within one communication goes over `Chip.links`.
  """

  text: str
  chip: Chip
  devices: Sequence[Any]
  groups: int

  @property
  def kind(self) -> str:
    """The devices' name in JAX."""
    return self.devices[0].device_kind

  def host_of(self, device: Any) -> int:
    """Returns the number of a device's slice of TPUs, or of its host of GPUs."""
    if self.chip.platform == 'gpu':
      return device.process_index
    return getattr(device, 'slice_index', None) or 0


def prepare(text: str) -> None:
  """Sets what must be set before JAX starts: the host is no part of what is compiled for.

  Raises:
    UserError: no such topology.
  """
  chip, _, shape = parse(text)
  os.environ.update(LIBTPU)
  os.environ['JAX_PLATFORMS'] = 'cpu'
  # A compiler without its device cannot read what it has written there, and JAX would warn of it.
  os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
  if CHIPS[chip].platform == 'cpu':
    os.environ['JAX_NUM_CPU_DEVICES'] = str(shape[0])


def parse(text: str) -> tuple[str, int, tuple[int, ...]]:
  """Returns the chip, the number of slices or hosts, and the shape of one of them.

  Raises:
    UserError: `text` is not of the form [N x ]CHIP:SHAPE.
  """
  match = re.fullmatch(r'(?:(\d+)\s*x\s*)?([a-z0-9]+):(\d+(?:x\d+)*)', text.strip())
  if not match or match[2] not in CHIPS:
    raise UserError(
      f'--topology={text}: must be a chip ({", ".join(CHIPS)}) and a shape, as in {EXAMPLES}'
    )
  shape = tuple(int(n) for n in match[3].split('x'))
  groups = int(match[1] or 1)
  if min(groups, *shape) < 1:
    raise UserError(f'--topology={text}: a shape has positive numbers, as in {EXAMPLES}')
  if CHIPS[match[2]].platform != 'tpu' and len(shape) != 1:
    raise UserError(f'--topology={text}: {match[2]} takes one number, the devices of a host')
  return match[2], groups, shape


def find(text: str) -> Topology:
  """Returns the devices of a topology such as those of EXAMPLES.

  Raises:
    UserError: no such topology, or its compiler is not installed.
  """
  name, groups, shape = parse(text)
  chip = CHIPS[name]
  found = {'tpu': _tpu, 'gpu': _gpu, 'cpu': _cpu}[chip.platform](text, name, groups, shape)
  return Topology(text, chip, found, groups)


def _tpu(text: str, name: str, groups: int, shape: tuple[int, ...]) -> Sequence[Any]:
  _need(text, 'libtpu', 'tpu')
  from jax.experimental import topologies

  more = {'num_slices': groups} if groups > 1 else {}
  layout = f'{name}:{"x".join(map(str, shape))}'
  try:
    return topologies.get_topology_desc(layout, platform='tpu', **more).devices
  except Exception as error:  # JaxRuntimeError; of libtpu, which knows what shapes there are
    raise UserError(f'--topology={text}: {str(error).splitlines()[0]}') from error


def _gpu(text: str, name: str, groups: int, shape: tuple[int, ...]) -> Sequence[Any]:
  _need(text, 'jax_cuda13_plugin', 'cuda')
  from jax.experimental import topologies

  target = (TARGETS / f'{name}.pbtxt').read_text()
  layout = f'1x{groups}x{shape[0]}'
  return topologies.get_topology_desc(name, 'cuda', target_config=target, topology=layout).devices


def _cpu(text: str, name: str, groups: int, shape: tuple[int, ...]) -> Sequence[Any]:
  import jax

  devices = jax.devices('cpu')
  if groups != 1 or len(devices) != shape[0]:
    raise UserError(f'--topology={text}: JAX has started with {len(devices)} devices of a CPU')
  return devices


def _need(text: str, module: str, extra: str) -> None:
  if importlib.util.find_spec(module) is None:
    raise UserError(
      f'--topology={text}: its compiler is not installed; `make venv EXTRAS=cpu,{extra}` installs'
      f' it ({SIZES[extra]}), with no such device here'
    )


SIZES = {'tpu': '1.5 GB', 'cuda': '3.6 GB'}
