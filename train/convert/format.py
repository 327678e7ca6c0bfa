"""What a format of public weights is: how it is recognised, and what a run folder is made of."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from data.text import tokenizers
from data.text.words.vocabulary import Vocabulary
from models.weights.files import Files


@dataclasses.dataclass(frozen=True)
class Converted:
  """Weights as a run folder has them.

  Attributes:
    config: the run's, yet to be completed.
    variables: `params` and other collections, float32 NumPy; emptied while they are written.
    summary: what was found, in a few words.
    meaning: what the weights depend on beside the config, see `Task.meaning`.
    tokenizer: of a language model, where it has one; of vectors of words, their vocabulary.
  """

  config: dict[str, Any]
  variables: dict[str, Any]
  summary: str
  meaning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tokenizer: tokenizers.Tokenizer | Vocabulary | None = None


@dataclasses.dataclass(frozen=True)
class Format:
  """A kind of public weights.

  Attributes:
    what: it in a few words, for messages.
    recognises: whether the files are of this kind, by their content.
    convert: the files' weights; raises ValueError where they do not fit together.
  """

  what: str
  recognises: Callable[[Files], bool]
  convert: Callable[[Files], Converted]
