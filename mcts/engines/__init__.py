"""Go engines on the host, and players of any game on the device.

Two contracts: a `Player` (`players.py`) is a function of a batch of states to a batch of actions,
for use on the device; an `Engine` (`engine.py`) thinks about one Go position on the host, by the
clock if there is one, and gives a `Player` of the same strength for games in a batch.

Read first `players.py`, then `engine.py`, `random_engine.py` and `search_engine.py`. Beside them:
`registry.py` (engines by name), `ruleset.py` (what two players agree on), `clock.py` (time
controls), `program.py` (another program, driven by the Go Text Protocol).

Imports `mcts.search` and `mcts.go`; is imported by `mcts.gtp`, `mcts.match`, `train`, `launch`.
"""

from mcts.engines.engine import Analysis as Analysis
from mcts.engines.engine import Candidate as Candidate
from mcts.engines.engine import Engine as Engine
from mcts.engines.engine import check_size as check_size
from mcts.engines.engine import final_analysis as final_analysis
from mcts.engines.players import NoAnswer as NoAnswer
from mcts.engines.players import Player as Player
from mcts.engines.random_engine import RandomEngine as RandomEngine
from mcts.engines.registry import ENGINES as ENGINES
from mcts.engines.registry import OPTIONS as OPTIONS
from mcts.engines.registry import SEARCH_OPTIONS as SEARCH_OPTIONS
from mcts.engines.registry import make as make
from mcts.engines.ruleset import RuleSet as RuleSet
from mcts.engines.search_engine import SearchEngine as SearchEngine
