"""Batched Monte Carlo tree search, with networks and games handed in as one function, `expand`.

Read in this order: `tree.py` (the arrays of a tree), `selection.py` (what a selection policy is),
`policies.py` (PUCT and Gumbel), `simulate.py` (one simulation of all trees: selection, expansion,
evaluation) and `backup.py`, `tree_search.py` (the loop, and searches that go on from move to move),
`evaluators.py` (from a game and a network to `expand`).

Anybody in `mcts`, `train` and `benchmarks` may import it; it imports `mcts.game` alone.
"""

from mcts.search.tree_search import Expand as Expand
from mcts.search.tree_search import Expansion as Expansion
from mcts.search.tree_search import advance as advance
from mcts.search.tree_search import decide as decide
from mcts.search.tree_search import extend as extend
from mcts.search.tree_search import game_keys as game_keys
from mcts.search.tree_search import gumbel as gumbel
from mcts.search.tree_search import puct as puct
from mcts.search.tree_search import search as search
from mcts.search.tree_search import timed as timed
