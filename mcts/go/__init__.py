"""Go by exact rules (docs/go_rules.md)."""

from mcts.go.game import SIZES as SIZES
from mcts.go.game import SUPERKO as SUPERKO
from mcts.go.game import Go as Go
from mcts.go.game import State as State
