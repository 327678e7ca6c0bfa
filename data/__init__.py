"""Data sets and batches: images, text, recorded games of Go.

Read in this order:
  pipeline.py     the contract: a batch is a pure function of (seed, step)
  images/, text/, go/   one kind of data each; `source.py` holds the class of its config section
  selfplay.py     the section of tasks that make their own data
  cache.py splits.py tfds.py checks.py spec.py   what the three kinds share

`train.tasks`, `train.verbs` and `benchmarks` import `data`. It imports nothing of ours but
`mcts.go.sgf`, the reader of one SGF file. The kinds do not import one another, and importing `data`
imports none of them.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any


class LazyTable(Mapping[str, Any]):
  """Maps names to objects of modules that are imported when a name is first looked up.

  paths: name -> 'module:attribute'.
  """

  def __init__(self, paths: Mapping[str, str]):
    self._paths = paths

  def __getitem__(self, name: str) -> Any:
    module, _, attribute = self._paths[name].partition(':')
    return getattr(importlib.import_module(module), attribute)

  def __contains__(self, name: object) -> bool:
    return name in self._paths

  def __iter__(self) -> Iterator[str]:
    return iter(self._paths)

  def __len__(self) -> int:
    return len(self._paths)


# The classes that `config.data.name` chooses from.
SOURCES = LazyTable(
  {
    'images': 'data.images.source:ImageData',
    'text': 'data.text.source:TextData',
    'selfplay': 'data.selfplay:SelfPlayData',
    'go_games': 'data.go.source:GoGames',
  }
)
