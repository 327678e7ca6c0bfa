"""Go engines by name, and of a network."""

from collections.abc import Callable

from jax import Array

from mcts.engines.players import Candidate, Engine, Random, Report, choose
from mcts.engines.searcher import Search
from mcts.go import playouts
from mcts.search import evaluators

Network = Callable[[Array], tuple[Array, Array]]
"""Observations `[B, N, N, C]` to logits `[B, A]` and values `[B]`."""

ENGINES: dict[str, Callable[..., Engine]] = {
  'random': lambda seed=0, **_: Random(seed=seed),
  'uniform': lambda **options: Search(evaluators.uniform, 'uniform', **options),
  'rollout': lambda **options: Search(playouts.rollout, 'rollout', **options),
}


def make(name: str, **options) -> Engine:
  """An engine of ENGINES; options as for `Search` (a random player takes the seed alone)."""
  if name not in ENGINES:
    raise ValueError(f'engine {name!r}: choose from {", ".join(ENGINES)}')
  return ENGINES[name](**options)


def from_network(net: Network, name='network', *, symmetries: bool = False, **options) -> Search:
  """A search that asks a network, such as a checkpoint's.

  symmetries: it sees each board turned or mirrored at random (AlphaGo Zero, Methods).
  """
  make_evaluator = evaluators.random_symmetry if symmetries else evaluators.network
  return Search(lambda game: make_evaluator(game, net), name, **options)


__all__ = [
  'ENGINES',
  'Candidate',
  'Engine',
  'Network',
  'Random',
  'Report',
  'Search',
  'choose',
  'from_network',
  'make',
]
