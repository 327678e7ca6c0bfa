"""Games that a network plays against itself, all of it inside compiled code.

Read in this order: `settings.py` (what self-play can be told), `actor.py` (one move of every game
and what is learned from it), `replay.py` (the ring buffers that positions are sampled from),
`resignation.py` (the threshold for giving up), `metrics.py` (what is reported of the games).

`train.tasks.selfplay` trains with it; it imports `mcts.game` and `mcts.search`.
"""
