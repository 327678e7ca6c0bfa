"""Small games of the contract in `mcts/game.py`, and playing any game by hand.

Read first `in_a_row.py` (stones in a row: all rules of the next two), then `tictactoe.py` and
`connect_four.py`, which are a page each. `connect_four_solver.py` solves Connect Four exactly, for
tests and evaluations. `terminal.py` plays any game by hand. Anybody may import these; they import
`mcts.game` and `mcts.symmetry` alone. A new game is a function that returns a `Game` and its line
in `mcts.GAMES`.
"""
