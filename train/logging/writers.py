"""Where metrics go beside metrics.jsonl: the contract of a writer.

`TensorBoard` is written in every run; `train/logging/weights_and_biases.py` where its package is
installed and the config's `wandb` names a project. A new one is a class and a line in
`train/verbs.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Writer(Protocol):
  """Takes what a run logs, in the order of its steps."""

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes metrics by name."""

  def files(self, step: int, files: Mapping[str, bytes]) -> None:
    """Writes what a task drew, name -> contents: images NAME.png, texts NAME.txt or others."""

  def close(self) -> None:
    """Writes what is left."""


Open = Callable[[str, int, Mapping[str, Any]], Writer]
"""(run folder, step that the run begins or resumes with, flat config) -> a writer.

What an earlier start wrote of later steps was undone, and will be written again.
"""


def is_image(name: str) -> bool:
  """Returns whether a file that a task drew is an image; what is none is a text."""
  return name.endswith('.png')


def stem(name: str) -> str:
  """Returns 'grid' of 'grid.png', under which a file is shown."""
  return name.rpartition('.')[0] or name
