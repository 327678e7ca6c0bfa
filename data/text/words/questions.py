"""Questions that vectors of words are evaluated on: analogies, and pairs with a similarity."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator

from data.remarks import Remarks
from data.text import files


@dataclasses.dataclass(frozen=True)
class QuestionSection:
  """Analogies of one kind.

  Attributes:
    name: such as 'gram8-plural'; those whose name begins with 'gram' are of grammar.
    questions: words (a, b, c, d): a is to b as c is to d.
  """

  name: str
  questions: list[tuple[str, ...]]

  @property
  def is_syntactic(self) -> bool:
    """Whether it asks for grammar rather than meaning, by Mikolov's names."""
    return self.name.startswith('gram')


def read_analogies(path: str, *, lower: bool = True) -> list[QuestionSection]:
  """Returns the sections of a file such as questions-words.txt: ': name', then four words a line.

  Lines of another number of words are left out, which is counted and said.

  Raises:
    ValueError: the file cannot be read or has no question.
  """
  found = [QuestionSection('questions', [])]
  remarks = Remarks(f'{path}: left out')
  for number, words in _lines(path, lower):
    if words[0].startswith(':'):
      found.append(QuestionSection(' '.join([words[0][1:], *words[1:]]).strip(), []))
    elif len(words) == 4:
      found[-1].questions.append(tuple(words))
    else:
      remarks.add('lines that are not four words', f'line {number}')
  remarks.say()
  if not any(section.questions for section in found):
    raise ValueError(f'{path}: has no question, which is a line of four words')
  return [section for section in found if section.questions]


def read_similarities(path: str, *, lower: bool = True) -> list[tuple[str, str, float]]:
  """Returns pairs of words and how similar people find them, of a file such as WordSim-353.

  A line has two words and a number, between spaces, tabs or commas. Others, such as headings, are
  left out, which is counted and said.

  Raises:
    ValueError: the file cannot be read, or has fewer than two pairs.
  """
  found, remarks = [], Remarks(f'{path}: left out')
  for number, words in _lines(path, lower, separators=',;'):
    value = _number(words[2]) if len(words) >= 3 else math.nan
    if math.isfinite(value):
      found.append((words[0], words[1], value))
    elif not words[0].startswith('#'):
      remarks.add('lines that are not two words and a number', f'line {number}')
  remarks.say()
  if len(found) < 2:
    raise ValueError(f'{path}: has fewer than two lines of two words and a number')
  return found


def _lines(path: str, lower: bool, separators: str = '') -> Iterator[tuple[int, list[str]]]:
  text = files.read(pathlib.Path(path).expanduser())
  text = text.lower() if lower else text
  for number, line in enumerate(text.split('\n'), 1):
    if words := line.translate(str.maketrans(separators, ' ' * len(separators))).split():
      yield number, words


def _number(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    return math.nan
