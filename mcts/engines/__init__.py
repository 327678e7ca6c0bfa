"""Players of Go on the host: engines that search, and programs that speak GTP."""

from mcts.engines.registry import ENGINES as ENGINES
from mcts.engines.registry import Candidate as Candidate
from mcts.engines.registry import Engine as Engine
from mcts.engines.registry import Network as Network
from mcts.engines.registry import Random as Random
from mcts.engines.registry import Report as Report
from mcts.engines.registry import Search as Search
from mcts.engines.registry import choose as choose
from mcts.engines.registry import from_network as from_network
from mcts.engines.registry import make as make
