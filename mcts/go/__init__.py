"""Go by exact rules (docs/go_rules.md), on the device for training and on the host for programs.

Read first `chains.py`, the layouts of boards and what a chain is; then `state.py`, `superko.py`
(the record of a game, from which its past positions follow) and `moves.py` (a move, and which are
legal); `planes.py` is what a network and a search tree see, and `game.py` puts them together as
`Go`. These are pure functions of one state; batches come from `jax.vmap`.

  playouts.py  random games, and the search's evaluator that plays them
  recorded.py  states of recorded games, without playing through them
  position.py  a game on the host, with undo, compiled once for each size: what engines and GTP use
  notation.py  vertices, results, a board as text
  handicap.py  where handicap stones stand
  sgf.py       SGF files: `sgf_syntax` parses them into properties, `sgf_record` is what they
               become, `sgf_write` writes it

Imports `mcts.game`, `mcts.symmetry`, `mcts.search.evaluators` and `models.forms` alone. Imported by
`mcts.alphago`, `engines`, `gtp`, `match` and `draw`, by tasks, and `sgf` by `data.go`.
"""

from mcts.go.game import SIZES as SIZES
from mcts.go.game import SUPERKO as SUPERKO
from mcts.go.game import Go as Go
from mcts.go.state import State as State
