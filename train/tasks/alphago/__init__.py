"""The pipeline of AlphaGo (Silver et al. 2016): four tasks, in the order in which they are trained.

Read first `network.py` (a network of the board, what it sees, and how it becomes a player) and
`base.py` (what the tasks share). Then, as the paper has its stages:

  policy.py          go_policy: the SL policy, and likewise the rollout policy, from expert games
  reinforce.py       go_reinforce: the RL policy, by games against a pool of its own past
  value_selfplay.py  go_value_selfplay: the value network, from games of the SL and RL policies
  value.py           go_value: the same from recorded games; and what both have in common, among it
                     the search of all networks together

A stage begins from the workdirs of runs of earlier ones. What they know of Go besides networks is
in `mcts/alphago/`, the networks are in `models/alphago.py`. Imported by `train.tasks` alone;
imports no other task.
"""
