"""Data sets and batches: images, text, recorded games of Go.

Read in this order:
  pipeline.py     the contract: a batch is a pure function of (seed, step)
  images/, text/, go/   one kind of data each; `source.py` holds the class of its config section
  selfplay.py     the section of tasks that make their own data
  permutation.py   the order of a large set
  cache.py splits.py tfds.py checks.py spec.py remarks.py   what the three kinds share
  published.py prepare.py   the verb `prepare`: public data

`train.tasks`, `train.verbs` and `benchmarks` import `data`. It imports nothing of ours but
`mcts.go.sgf`, the reader of one SGF file. The kinds do not import one another, and importing `data`
imports none of them.
"""

SOURCES = {
  'images': 'data.images.source:ImageData',
  'text': 'data.text.source:TextData',
  'words': 'data.text.words.source:WordData',
  'parallel': 'data.text.parallel.source:ParallelText',
  'selfplay': 'data.selfplay:SelfPlayData',
  'go_games': 'data.go.source:GoGames',
}
"""What `config.data.name` chooses from: 'module:class', imported when it is chosen.

Each has `metadata` (what a network is built from), `describe` (the line at the start of a run) and
`close`.
"""
