"""The task `selfplay`: AlphaGo Zero, AlphaZero and Gumbel AlphaZero on any game of `mcts/game.py`.

Read in this order: `settings.py` (the config's sections), `task.py` (network, loss and evaluations,
put together), `loss.py`, `source.py` (how a batch is played, kept and sampled on the devices). Then
what is shown: `preview.py` (a game as text, SGF, picture), `timing.py` (where a step's time goes),
`play.py` (a game by hand against a run). The games themselves are played by `mcts/selfplay`.

`train.verbs` finds the task in `train.tasks.TASKS`; no other task imports this room.
"""
