"""What a compiled step needs of a device: memory, communication, time; as numbers and as text."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from train.aot.hlo import Collective
from train.aot.programs import Lowered
from train.aot.topology import Chip
from train.logging import peaks

MIB = 2**20
ROWS = 12  # collectives that the text shows; compile.json has all
# Of GPUs' libraries and of TPUs: what tells whether the fast forms are in the program.
NOTABLE = ('fmha', 'cudnn', 'cublas', 'tpu_custom_call', 'convolution', 'triton', 'onednn')


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes that a device needs.

  Attributes:
    parameters: of the network.
    optimizer: its state.
    other: averaged weights, statistics, and what a TPU fills arrays up with.
    carry: what the other programs keep, such as games and their replay.
    batch: of one step.
    temporaries: of the program that needs most of them.
    limit: what a program can have there.
  """

  parameters: int
  optimizer: int
  other: int
  carry: int
  batch: int
  temporaries: int
  limit: int

  @property
  def total(self) -> int:
    """All of it."""
    return self.carry + self.touched

  @property
  def touched(self) -> int:
    """What each step reads and writes: all but the carry, of which it takes a few examples."""
    return self.parameters + self.optimizer + self.other + self.batch + self.temporaries

  @property
  def fits(self) -> bool:
    """Whether a device has as much."""
    return self.total <= self.limit


def memory(lowered: Lowered, compiled: Sequence[Any], chip: Chip) -> Memory:
  """Returns what a device must hold.

  Args:
    lowered: the programs, and what they take.
    compiled: all of them.
    chip: what a device has.
  """
  parts = {
    'parameters': held(lowered.params),
    'optimizer': held(lowered.opt_state),
    'batch': held(lowered.batch),
  }
  analyses = [program.memory_analysis() for program in compiled]
  *before, last = (each.argument_size_in_bytes for each in analyses)
  # Each program takes the parameters.
  carry = max(0, sum(before) - len(before) * parts['parameters'])
  temporaries = max(
    each.temp_size_in_bytes + each.output_size_in_bytes - each.alias_size_in_bytes
    for each in analyses
  )
  other = max(0, last - sum(parts.values()))
  return Memory(**parts, other=other, carry=carry, temporaries=temporaries, limit=int(chip.memory))


def held(tree: Any) -> int:
  """Returns the bytes that a device holds of a tree of abstract arrays with shardings."""

  def of_leaf(leaf: Any) -> int:
    width = 8 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * width

  return sum(map(of_leaf, jax.tree.leaves(tree)))


@dataclasses.dataclass(frozen=True)
class StepEstimate:
  """The seconds of a step, each part by itself; they overlap at best, and add up at worst.

  Attributes:
    compute: the model's FLOPs at the devices' peak; None where that is unknown.
    memory: what is held, but for the carry, read and written once, temporaries written and read
      once, at the memory's bandwidth. A lower bound: weights are read in each microbatch, and
      temporaries share places.
    network: what a device sends, at the bandwidth of the links or of the network between hosts.
  """

  compute: float | None
  memory: float
  network: float

  @property
  def least(self) -> float:
    """The longest of the parts: all overlap."""
    return max(self.compute or 0.0, self.memory, self.network)

  @property
  def most(self) -> float:
    """Their sum: none overlap."""
    return (self.compute or 0.0) + self.memory + self.network


def estimate(
  needed: Memory,
  collectives: Iterable[Collective],
  flops: float,
  devices: Sequence[Any],
  chip: Chip,
) -> StepEstimate:
  """Returns how long a step will take about, by what it needs and what the chip has."""
  network = sum(one.sent / (chip.network if one.far else chip.links) for one in collectives)
  return StepEstimate(peaks.seconds(flops, devices), 2 * needed.touched / chip.bandwidth, network)


# -------- as text --------


def memory_text(needed: Memory) -> list[str]:
  """Returns the table of a device's memory."""
  names = ('parameters', 'optimizer', 'other', 'carry', 'batch', 'temporaries')
  rows = [(name, getattr(needed, name)) for name in names if getattr(needed, name)]
  lines = [f'  {name:12}{_mib(value)}' for name, value in rows]
  verdict = 'fits' if needed.fits else 'DOES NOT FIT'
  share = needed.total / needed.limit
  last = f'  {"all":12}{_mib(needed.total)} of {needed.limit / MIB:,.0f}: {verdict} ({share:.0%})'
  return ['memory of a device, MiB', *lines, last]


def collectives_text(collectives: Sequence[Collective]) -> list[str]:
  """Returns the table of what is sent, by kind, axes and source, most first."""
  merged: dict[tuple[str, str, str], tuple[int, float]] = {}
  for one in collectives:
    key = one.kind, '+'.join(one.axes) + (' (far)' if one.far else ''), one.source
    times, sent = merged.get(key, (0, 0.0))
    merged[key] = times + one.times, sent + one.sent
  total = sum(one.sent for one in collectives)
  if not merged:
    return ['communication: none']
  lines = [f'communication, MiB that a device sends in a step: {total / MIB:,.1f}']
  rows = sorted(merged.items(), key=lambda item: -item[1][1])
  for (kind, axes, source), (times, sent) in rows[:ROWS]:
    lines.append(f'  {_mib(sent)}  {times:4} x {kind:18} {axes:16} {source}'.rstrip())
  if len(rows) > ROWS:
    rest = sum(sent for _, (_, sent) in rows[ROWS:])
    lines.append(f'  {_mib(rest)}  {len(rows) - ROWS} more')
  return lines


def kernels_text(kernels: Mapping[str, int]) -> list[str]:
  """Returns the kernels that say whether the fast forms are in the program."""
  shown = [f'{count} {name}' for name, count in kernels.items() if any(x in name for x in NOTABLE)]
  return [f'kernels: {", ".join(shown) or "none of a library"}']


def estimate_text(found: StepEstimate, flops: float, devices: int) -> list[str]:
  """Returns the estimate, and what it is made of."""
  compute = 'unknown' if found.compute is None else f'{found.compute * 1e3:,.2f}'
  parts = f'compute {compute}, memory {found.memory * 1e3:,.2f}, network {found.network * 1e3:,.2f}'
  span = f'a step, ms: {found.least * 1e3:,.2f} to {found.most * 1e3:,.2f}'
  return [f'{span} ({parts}); {flops:.3g} FLOPs on {devices} devices']


def _mib(value: float) -> str:
  return f'{value / MIB:12,.1f}'
