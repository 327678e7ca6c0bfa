"""Reads a compiled program, as XLA prints it: what is communicated, and by which kernels.

A program is computations that call one another. What a loop's body holds happens as often as the
loop turns, and XLA's own counts take each body once, so calls are followed here.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from train.aot import replica_groups

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition|branch_computations)=(%[\w.\-]+|\{[^}]*\})')
_COLLECTIVE = re.compile(rf'= (.*?) ({"|".join(KINDS)})(-start)?\(')
_ARRAY = re.compile(r'\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]')
_CHAIN = re.compile(r'channel_id=(\d+).*chain_id="(\d+)"')
_LIMIT = re.compile(r' [su]32\[\].* constant\((\d+)\)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
  """One communication of a program, as often as it happens in a step.

  Attributes:
    kind: of KINDS.
    axes: of the mesh, over which devices talk.
    devices: that talk to one another.
    far: whether they are of several slices or hosts.
    size: bytes, of the whole array: what is gathered, or what is there before it is scattered.
    source: 'file:line' of this code, '' where XLA does not say.
    op: JAX's name of the operation.
    times: how often, a step.
  """

  kind: str
  axes: tuple[str, ...]
  devices: int
  far: bool
  size: int
  source: str
  op: str
  times: int = 1

  @property
  def sent(self) -> float:
    """Bytes that a device sends in a step, by the ring algorithms."""
    parts = {'all-reduce': 2 * (self.devices - 1), 'collective-permute': self.devices}
    return self.times * self.size * parts.get(self.kind, self.devices - 1) / self.devices


class Program:
  """A compiled program's text.

  Args:
    text: of `jax.stages.Compiled.as_text`.
    mesh_shape: axis -> size, of the mesh that it is for.
    hosts: of each device of the mesh the number of its slice or host; () where all are of one.
    root: folder of the sources that are named.
  """

  def __init__(
    self, text: str, mesh_shape: Mapping[str, int], hosts: Sequence[int] = (), root: str = ''
  ):
    self.text, self.mesh_shape, self.root = text, mesh_shape, root
    self.hosts = np.array(hosts or [0] * math.prod(mesh_shape.values()))
    self.computations, self.entry = _computations(text)

  @functools.cached_property
  def times(self) -> Mapping[str, int]:
    """Computation -> how often it runs in a step; a loop of unknown length counts once."""
    callers: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    for caller, lines in self.computations.items():
      for line in lines:
        for name in _called(line):
          callers[name].append((caller, self._trips(line)))

    @functools.cache
    def count(name: str) -> int:
      return 1 if name == self.entry else sum(n * count(caller) for caller, n in callers[name])

    return {name: count(name) for name in self.computations}

  def _trips(self, line: str) -> int:
    """Returns how often a line's loop turns; 1 if it is none, or if only data will tell."""
    if ' while(' not in line:
      return 1
    if known := _TRIPS.search(line):
      return int(known[1])
    condition = self._of(line, 'condition')
    # A loop that counts up from 0: `index < constant`.
    limits = [found[1] for found in map(_LIMIT.search, condition) if found]
    counts = any('direction=LT' in line for line in condition)
    if not counts or len(limits) != 1:
      return 1
    return max(1, int(limits[0]) // _stride(condition, self._of(line, 'body')))

  def _of(self, line: str, part: str) -> list[str]:
    """Returns the instructions of the computation that is a part of a line's loop."""
    found = re.search(rf'{part}=%([\w.\-]+)', line)
    return self.computations.get(found[1], []) if found else []

  def collectives(self) -> list[Collective]:
    """Returns what is communicated, most first; equal ones are one."""
    times: dict[Collective, int] = collections.Counter()
    chains: set[tuple[str, ...]] = set()
    for name, lines in self.computations.items():
      for line in lines:
        match = _COLLECTIVE.search(line) if self.times[name] else None
        # What a TPU gathers while it computes is a chain of fusions, each with the same line.
        chain = _CHAIN.search(line)
        if match is None or (chain and chain.groups() in chains):
          continue
        chains.update([chain.groups()] if chain else [])
        one = self._collective(match[2], match[1], bool(match[3]), line)
        if 'all-reduce-scatter' in name:  # fused: no device receives the whole
          one = dataclasses.replace(one, kind='reduce-scatter')
        times[one] += self.times[name]
    found = [dataclasses.replace(one, times=n) for one, n in times.items() if one.devices > 1]
    return sorted(found, key=lambda x: -x.sent)

  def _collective(self, kind: str, shape: str, started: bool, line: str) -> Collective:
    groups = replica_groups.read(line, len(self.hosts))
    devices, hosts = groups.shape[1], self.hosts[groups]
    name = re.search(r'op_name="([^"]*)"', line)
    return Collective(
      kind=kind,
      axes=replica_groups.axes(groups, self.mesh_shape),
      devices=devices,
      far=bool((hosts != hosts[:, :1]).any()),
      size=_size(kind, shape, started, devices),
      source=self.source(line),
      op=name[1] if name else '',
    )

  def kernels(self) -> Mapping[str, int]:
    """Returns the number of convolutions, and of calls of libraries and own kernels by name."""
    lines = [line for lines in self.computations.values() for line in lines]
    found = collections.Counter(re.findall(r'custom_call_target="([^"]+)"', '\n'.join(lines)))
    found['convolution'] = sum(' convolution(' in line for line in lines)
    return {name: count for name, count in sorted(found.items()) if count}

  # -------- where in the code --------

  def source(self, line: str) -> str:
    """Returns 'file:line' of the innermost frame that is of this code, '' if none is."""
    if direct := re.search(r'source_file="([^"]*)" source_line=(\d+)', line):
      return self._shown(direct[1], direct[2])
    match = re.search(r'stack_frame_id=(\d+)', line)
    frame, seen = match[1] if match else '', ''
    while frame in self._frames and frame != seen:
      location, parent = self._frames[frame]
      if shown := self._shown(*self._locations[location]):
        return shown
      frame, seen = parent, frame
    return ''

  def _shown(self, file: str, line: str) -> str:
    if not file.startswith(self.root) or '/site-packages/' in file:
      return ''
    return f'{file.removeprefix(self.root).lstrip("/")}:{line}'

  @functools.cached_property
  def _frames(self) -> Mapping[str, tuple[str, str]]:
    pattern = r'^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?'
    return {a: (b, c) for a, b, c in re.findall(pattern, self.text, re.M)}

  @functools.cached_property
  def _locations(self) -> Mapping[str, tuple[str, str]]:
    section = self.text.partition('\nFileNames\n')[2].partition('\n\n')[0]
    files = dict(re.findall(r'^(\d+) "([^"]*)"$', section, re.M))
    pattern = r'^(\d+) \{file_name_id=(\d+) .*?line=(\d+)'
    return {a: (files[b], c) for a, b, c in re.findall(pattern, self.text, re.M)}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Returns the instructions of each computation, a line each, and the name of the entry."""
  found: dict[str, list[str]] = {}
  name, entry = '', ''
  for line in text.splitlines():
    if head := _HEAD.match(line):
      name = head[2]
      found[name], entry = [], name if head[1] else entry
    elif line == '}':
      name = ''
    elif name:
      found[name].append(line)
  return found, entry


def _stride(condition: Sequence[str], body: Sequence[str]) -> int:
  """Returns how far a loop counts in a turn: 2 where a TPU has unrolled a windowed product."""
  place = re.search(r'get-tuple-element\(.*index=(\d+)', '\n'.join(condition))
  root = next((x for x in body if 'ROOT' in x and ' tuple(' in x), '')
  parts = re.findall(r'%([\w.\-]+)', root.partition(' tuple(')[2])
  if place is None or int(place[1]) >= len(parts):
    return 1
  made = {x.strip().removeprefix('ROOT ').partition(' = ')[0].lstrip('%'): x for x in body}
  added = re.search(r' add\(%([\w.\-]+), %([\w.\-]+)\)', made.get(parts[int(place[1])], ''))
  steps = (
    [re.search(r' constant\((\d+)\)', made.get(x, '')) for x in added.groups()] if added else []
  )
  return next((int(x[1]) for x in steps if x), 1)


def _called(line: str) -> Iterator[str]:
  """Yields the computations that an instruction calls."""
  for names in _CALLED.findall(line):
    yield from re.findall(r'%([\w.\-]+)', names)


def _size(kind: str, shape: str, started: bool, devices: int) -> int:
  """Returns the bytes of the whole arrays that a collective with this result gathers or scatters.

  One that is started has pairs of what it takes and what it will end with as its result.
  """
  parts = _elements(shape)
  if started and kind != 'all-reduce' and len(parts) > 1:
    return _bytes(parts[0] if kind == 'reduce-scatter' else parts[1])
  return _bytes(shape) * (devices if kind == 'reduce-scatter' else 1)


def _elements(shape: str) -> list[str]:
  """Returns the elements of a tuple's outermost level: '(a, (b, c))' has 'a' and '(b, c)'."""
  if not shape.startswith('('):
    return [shape]
  depth, parts = 0, ['']
  for letter in re.sub(r'\{[^}]*\}|/\*.*?\*/', '', shape)[1:-1]:
    depth += (letter in '([') - (letter in ')]')
    if letter == ',' and depth == 0:
      parts.append('')
    else:
      parts[-1] += letter
  return [part.strip() for part in parts]


def _bytes(shape: str) -> int:
  """Returns the bytes of all arrays in the text of a shape, such as '(f32[2,3], pred[])'."""

  def of_array(dtype: str, dims: str) -> float:
    bits = re.search(r'\d+', dtype)
    return (int(bits[0]) / 8 if bits else 1) * math.prod(int(n) for n in dims.split(',') if n)

  return int(sum(of_array(*found) for found in _ARRAY.findall(shape)))
