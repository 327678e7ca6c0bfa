"""Matches between two players: pairs of games with both colours, and what they say of strength.

Read first `batch.py`, which plays pairs of games of any game on the device and is all that the
evaluations of training need; `exhaustive.py` counts every line of play of a small game; `elo.py`
turns results into a difference in strength.

The verb match plays Go: `terms.py` and `record.py` (what a match is played by, and a game that is
over), `lockstep.py` (two engines of ours, all games in one batch), `contestants.py` and
`referee.py` (a GTP program takes part: one game after the other), `arena.py` (the match).

Imports `mcts.engines`, `mcts.go` and `mcts.game`; is imported by `train` and `launch`.
"""
