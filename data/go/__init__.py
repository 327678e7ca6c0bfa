"""Recorded games of Go: SGF files to positions that a network predicts moves or results from.

Read in this order:
  files.py        the files of a folder, gzipped or not
  parsing.py      lines of SGF to moves
  collection.py   many games in SGF as arrays, kept in the cache
  replay.py       games played through in NumPy: which are legal, and when each stone is captured
  games.py        the games of a data set, divided into training and test games
  loader.py       batches of positions
  source.py       the config section

`train.tasks.alphago` imports it; it imports `mcts.go.sgf` and its neighbours, the modules of `data`
itself and nothing else of ours.
"""
