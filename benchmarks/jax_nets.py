"""Our image networks in our compiled training step."""

import contextlib
import unittest.mock
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import steps
from benchmarks.turns import Burst
from data.images.source import ImageMetadata
from models import ops
from train.runtime import host
from train.tasks.classify import Classify


def compile_step(
  net: str, batch: int, shape: tuple[int, int, int], classes: int
) -> tuple[Any, Any, dict[str, jax.Array]]:
  """Returns what `steps.compile_step` does, for a batch of images of `shape` [H, W, C]."""
  data: Any = ImageMetadata(tuple(map(str, range(classes))), shape)  # nothing else is asked for
  dtype = 'bfloat16' if host.accelerator() else 'float32'
  rng = np.random.default_rng(0)
  values = {
    'image': rng.normal(size=(batch, *shape)).astype(np.float32),
    'label': rng.integers(classes, size=batch).astype(np.int32),
    'index': np.arange(batch, dtype=np.int32),
    'mask': np.ones(batch, np.float32),
  }
  task = Classify({'name': net, 'dtype': dtype}, data)
  return steps.compile_step(task, optax.sgd(0.01, momentum=0.9), values)


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
  """Traces one function of `ops`, such as 'max_pool', in its plain form, and the others as ever."""
  function = getattr(ops, name)

  def plain(*args: Any, **kwargs: Any) -> Any:
    with ops.use('plain'):
      return function(*args, **kwargs)

  with unittest.mock.patch.object(ops, name, plain):
    yield


def _formulation(form: str) -> contextlib.AbstractContextManager[Any]:
  if not form:
    return contextlib.nullcontext()
  return ops.use('plain') if form == 'plain' else _without(form.removeprefix('without-'))


def make_burst(
  net: str, batch: int, shape: tuple[int, int, int], classes: int, *, form: str
) -> tuple[Burst, int]:
  """Returns a function of n training steps, and the number of the network's parameters.

  `form` is '' (as in training), 'plain' (as on an accelerator) or 'without-NAME'.
  """
  with _formulation(form):
    step, state, data = compile_step(net, batch, shape, classes)
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  return steps.make_burst(step, state, data), parameters
