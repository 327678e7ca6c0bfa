"""Says which form of an operation a program gets while it is traced: the plain one, or a CPU's."""

import contextlib

import jax

FORMULATIONS = ('cpu', 'plain')
_forced: list[str] = []  # `use` blocks entered, innermost last


def formulation() -> str:
  """Returns which form is traced here and now, 'cpu' or 'plain'."""
  if _forced:
    return _forced[-1]
  return 'cpu' if jax.default_backend() == 'cpu' else 'plain'


@contextlib.contextmanager
def use(name: str):
  """Forces a formulation while tracing: in a test, or to compile for a TPU on a machine without."""
  if name not in FORMULATIONS:
    raise ValueError(f'formulation {name!r}: choose from {", ".join(FORMULATIONS)}')
  _forced.append(name)
  try:
    yield
  finally:
    _forced.pop()
