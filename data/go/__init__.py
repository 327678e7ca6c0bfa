"""Recorded games of Go: SGF files to positions that a network predicts moves or results from.

Read in this order:
  collection.py   many games in SGF as arrays, kept in the cache
  replay.py       games played through in NumPy: which are legal, and when each stone is captured
  games.py        the games of a data set, divided into training and test games
  loader.py       batches of positions
  source.py       the config section

`train.tasks.alphago` imports it; it imports `mcts.go.sgf`, the modules of `data` itself and nothing
else of ours.
"""
