"""Batched Monte Carlo tree search."""

from mcts.search.tree_search import Expand as Expand
from mcts.search.tree_search import Expansion as Expansion
from mcts.search.tree_search import advance as advance
from mcts.search.tree_search import extend as extend
from mcts.search.tree_search import game_keys as game_keys
from mcts.search.tree_search import gumbel as gumbel
from mcts.search.tree_search import puct as puct
from mcts.search.tree_search import search as search
from mcts.search.tree_search import timed as timed
