"""What AlphaGo of 2016 knows of Go besides its networks (Silver et al. 2016, Methods).

Read first `features.py`, the 48 planes that its networks see, then `ladders.py`, the search behind
two of them. `rollout_policy.py` is the fast linear policy of playouts, `mixed.py` the evaluation of
a leaf by value network and rollout, `episodes.py` the games of policies that reinforcement learning
and the value network learn from. The networks are in `models/alphago.py`, what trains them in
`train/tasks/alphago/`.

Imports `mcts.go`, `mcts.search`, `mcts.game` and `models.forms`. Imported by `train.tasks.alphago`.
"""
