"""Reads from a line of a compiled program which devices talk to which."""

import math
import re
from collections.abc import Mapping

import numpy as np

_PAIRS = re.compile(r'source_target_pairs=\{(\{.*?\})\}')
_LISTS = re.compile(r'replica_groups=\{(\{.*?\})\}')
_RANGE = re.compile(r'\[([\d,]+)\](?:<=\[([\d,]+)\])?(?:T\(([\d,]+)\))?')
_MESH = re.compile(r'replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((.*?)\))? \{(.*?)\}')
_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


def read(line: str, devices: int) -> np.ndarray:
  """Returns int `[groups, n]`, the devices (by their place in the mesh) that talk to one another.

  XLA writes them in four ways: as lists, as a reshaped and transposed range, as axes of a mesh of
  its own, and of permutations as pairs.
  """
  if found := _PAIRS.search(line) or _LISTS.search(line):
    return np.array([_ints(group) for group in re.findall(r'\{([\d,]+)\}', found[1])])
  if found := _MESH.search(line):
    return _of_mesh(found[1], found[2], found[3], devices)
  if found := re.search(r'replica_groups=(\[\S*)', line):
    return _range(found[1])
  return np.arange(devices)[None]  # all of them


def axes(groups: np.ndarray, mesh_shape: Mapping[str, int]) -> tuple[str, ...]:
  """Returns the axes of the mesh along which the devices of a group differ."""
  places = np.unravel_index(groups, tuple(mesh_shape.values()))
  differ = [bool((place != place[:, :1]).any()) for place in places]
  return tuple(axis for axis, here in zip(mesh_shape, differ, strict=True) if here)


def _ints(text: str) -> list[int]:
  return [int(n) for n in text.split(',')]


def _range(text: str) -> np.ndarray:
  """Reads '[2,8]<=[8,2]T(1,0)': a range, reshaped, transposed, reshaped again."""
  found = _RANGE.match(text)
  if found is None:
    raise ValueError(f'{text}: no range of devices')
  shape = _ints(found[1])
  values = np.arange(math.prod(shape))
  if found[3]:
    values = values.reshape(_ints(found[2] or found[1])).transpose(_ints(found[3]))
  return values.reshape(shape)


def _of_mesh(sizes: str, ids: str | None, chosen: str, devices: int) -> np.ndarray:
  """Reads XLA's own mesh: the sizes of its axes, its devices, and the axes that talk.

  An axis may be cut: `'a':(2)4` is the part of size 4 after a part of size 2.
  """
  cuts = {found[1]: found for found in _AXIS.finditer(chosen)}
  dims: list[int] = []
  talking: list[int] = []
  for name, text in re.findall(r"'([^']+)'=(\d+)", sizes):
    size, cut = int(text), cuts.get(name)
    before, part = (int(cut[2]), int(cut[3])) if cut and cut[2] else (1, size)
    if cut:
      talking.append(len(dims) + 1)
    dims += [before, part, size // (before * part)]
  order = np.arange(devices) if not ids else _range(ids).reshape(-1)
  grid = np.moveaxis(order.reshape(dims), talking, range(-len(talking), 0))
  return grid.reshape(-1, math.prod(dims[i] for i in talking))
