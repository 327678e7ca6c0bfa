"""Says in which order a CPU computes, and keeps XLA from computing a value in each of its uses."""

from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from models.cpu import build
from models.forms import formulation


@jax.custom_vjp
def apart(x: Any) -> Any:
  """Returns x, arrays that are computed once, in memory, before their uses; so are its gradients.

  XLA:CPU fuses cheap producers into every consumer. A convolution's kernel gradient consumes its
  operands transposed, and in ResNet-20 that computed whole stages anew, one strided pixel at a
  time: half of the step. It drops `lax.optimization_barrier` before it fuses, but fuses nothing
  through a call that must not be inlined.

  Several arrays wait for one another. A layer's two gradients do, since else nothing says that the
  old kernel, from which the one comes, is read before the other overwrites it in the optimiser: XLA
  then copies the kernel first (151 MB in AlexNet).
  """
  with set_xla_metadata(inlineable='false'):
    return _identity(x)


_identity = jax.jit(lambda x: x)
apart.defvjp(lambda x: (apart(x), None), lambda _, dx: (apart(dx),))


def in_turn(first: Any, then: Any) -> tuple[Any, Any]:
  """Returns both; on a CPU nothing uses `then` before `first` is computed.

  Of two updates in place, one of which reads the old value of the other's array, the reader must
  come first; XLA's CPU backend copies the array where nothing says so.
  """
  return apart((first, then)) if formulation() == 'cpu' else (first, then)


def unrolled(steps: int) -> int:
  """Returns how many of a training loop's steps to compile one after another.

  All where XLA convolves on a CPU: its gradients are a hundred times slower inside of a loop.
  """
  return steps if formulation() == 'cpu' and build.why_not() else 1
