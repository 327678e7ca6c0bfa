"""Where a checkpoint was saved: another place goes on with it, and says so."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh


def place(mesh: Mesh, accumulate: int) -> dict[str, Any]:
  """Returns what a step is cut over: the mesh's axes, processes, and microbatches."""
  axes = ' '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
  return {'mesh': axes, 'processes': jax.process_count(), 'accumulate': accumulate}


def moved(saved: Mapping[str, Any], here: Mapping[str, Any]) -> str:
  """Returns a line for a run that goes on in another place than it was saved in, else ''."""
  if saved == here:
    return ''
  old, new = (
    f'mesh {x["mesh"]}, processes {x["processes"]}, accumulate {x["accumulate"]}'
    for x in (saved, here)
  )
  recut = saved['accumulate'] != here['accumulate']
  note = '; BatchNorm and dropout see other microbatches' if recut else ''
  return f'saved with {old}; goes on whole with {new}{note}'
