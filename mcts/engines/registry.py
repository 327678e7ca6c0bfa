"""Go engines by name."""

from collections.abc import Callable

from mcts.engines.engine import Engine
from mcts.engines.random_engine import RandomEngine
from mcts.engines.search_engine import SearchEngine
from mcts.go import playouts
from mcts.search import evaluators

ENGINES: dict[str, Callable[..., Engine]] = {
  # The same options go to both sides of a match, and a random player has no use for a search's.
  'random': lambda seed=0, **_: RandomEngine(seed=seed),
  'uniform': lambda **options: SearchEngine(evaluators.uniform, 'uniform', **options),
  'rollout': lambda **options: SearchEngine(playouts.rollout, 'rollout', **options),
}

SEARCH_OPTIONS: dict[str, Callable] = {
  'num_simulations': int,
  'num_parallel_leaves': int,
  'max_nodes': int,
  'temperature': float,
  'seed': int,
  'cleanup_margin': float,
}
"""Those of `SearchEngine` that users may give, and their types."""

OPTIONS: dict[str, dict[str, Callable]] = {
  'random': {'seed': int},
  'uniform': SEARCH_OPTIONS,
  'rollout': SEARCH_OPTIONS,
}


def make(name: str, **options) -> Engine:
  """Returns an engine of `ENGINES`.

  Args:
    name: 'random', 'uniform' (a search that knows the rules alone) or 'rollout' (a search whose
      leaves are played out at random).
    **options: of `SearchEngine`, such as num_simulations and seed.

  Raises:
    ValueError: for a name that is not in the table.
  """
  if name not in ENGINES:
    raise ValueError(f'engine {name!r}: choose from {", ".join(ENGINES)}')
  return ENGINES[name](**options)
