"""Evaluates vectors of words: analogies, as word2vec's compute-accuracy does, and similarities."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from data.text.words.questions import QuestionSection
from data.text.words.vocabulary import Vocabulary
from train.errors import UserError
from train.tasks.words.neighbours import Vectors

MOST = 30_000  # the first words of the vocabulary, which questions are asked of and answered with
AT_ONCE = 1024  # questions


@dataclasses.dataclass(frozen=True)
class Answers:
  """What came of a section's questions.

  Attributes:
    section: its name and questions.
    asked: of how many all words are among the first `MOST`.
    right: how many of these are answered right.
  """

  section: QuestionSection
  asked: int
  right: int


def answerable(
  vocabulary: Vocabulary, sections: Sequence[QuestionSection], where: str
) -> list[np.ndarray]:
  """Returns int32 `[Q, 4]` of each section: the words of the questions that can be asked.

  Questions with a word that is not among the first 30,000 are left out, as in word2vec's
  compute-accuracy and gensim.

  Raises:
    UserError: none can be asked.
  """
  found = [_answerable(vocabulary.numbers, section) for section in sections]
  if not any(map(len, found)):
    total = sum(len(section.questions) for section in sections)
    size = min(MOST, len(vocabulary.words))
    raise UserError(
      f'{where}: none of its {total:,} questions has all four words among the first {size:,} of the'
      ' vocabulary'
    )
  return found


def _answerable(numbers: dict[str, int], section: QuestionSection) -> np.ndarray:
  found = ([numbers.get(word, MOST) for word in question] for question in section.questions)
  return np.array([row for row in found if max(row) < MOST], np.int32).reshape(-1, 4)


def analogies(vectors: Vectors, sections: Sequence[QuestionSection], where: str) -> list[Answers]:
  """Returns each section's answers.

  The answer to 'a is to b as c is to' is the word nearest to b - a + c by cosine, none of these
  three.

  Raises:
    UserError: no question can be asked (`answerable`).
  """
  asked = answerable(vectors.vocabulary, sections, where)
  rows = vectors.rows[:MOST]
  return [
    Answers(section, len(questions), sum(_right(rows, questions)))
    for section, questions in zip(sections, asked, strict=True)
  ]


def _right(rows: np.ndarray, questions: np.ndarray) -> Iterator[int]:
  for start in range(0, len(questions), AT_ONCE):
    a, b, c, d = questions[start : start + AT_ONCE].T
    scores = (rows[b] - rows[a] + rows[c]) @ rows.T
    each = np.arange(len(a))
    for given in (a, b, c):
      scores[each, given] = -np.inf
    yield int(np.count_nonzero(scores.argmax(1) == d))


def metrics(answers: Sequence[Answers]) -> dict[str, float]:
  """Returns the accuracy of all questions, of semantic and of syntactic ones, and their number."""
  kinds = {
    'accuracy': list(answers),
    'semantic': [x for x in answers if not x.section.is_syntactic],
    'syntactic': [x for x in answers if x.section.is_syntactic],
  }
  counts = {
    name: (sum(x.right for x in of), sum(x.asked for x in of)) for name, of in kinds.items()
  }
  shares = {name: right / asked for name, (right, asked) in counts.items() if asked}
  return {**shares, 'questions': float(counts['accuracy'][1])}


def table(answers: Sequence[Answers]) -> str:
  """Returns the accuracy by section as lines of text, each with its denominator."""
  total = Answers(
    QuestionSection('all', [question for x in answers for question in x.section.questions]),
    sum(x.asked for x in answers),
    sum(x.right for x in answers),
  )
  width = max(len(x.section.name) for x in answers)
  lines = [f'{"section":<{width}}  right  asked   of all  accuracy']
  for each in (*answers, total):
    share = f'{100 * each.right / each.asked:7.2f} %' if each.asked else '      –'
    size = len(each.section.questions)
    lines.append(
      f'{each.section.name:<{width}}  {each.right:5,}  {each.asked:5,}  {size:7,} {share}'
    )
  return '\n'.join(lines) + '\n'


def similarities(
  vectors: Vectors, pairs: Sequence[tuple[str, str, float]], where: str
) -> tuple[dict[str, float], int]:
  """Returns the rank correlation of cosines with people's judgements, and the number of pairs.

  It is Spearman's, over the pairs whose words are both in the vocabulary.

  Raises:
    UserError: these are fewer than two.
  """
  numbers = vectors.vocabulary.numbers
  found = [(numbers[a], numbers[b], x) for a, b, x in pairs if a in numbers and b in numbers]
  if len(found) < 2:
    raise UserError(
      f'{where}: of its {len(pairs):,} pairs {len(found)} have both words in the vocabulary; two'
      ' are the least'
    )
  a, b, judged = (np.array(x) for x in zip(*found, strict=True))
  cosines = np.sum(vectors.rows[a] * vectors.rows[b], axis=1)
  return {'spearman': correlation(ranks(cosines), ranks(judged)), 'pairs': float(len(found))}, len(
    found
  )


def ranks(values: np.ndarray) -> np.ndarray:
  """Returns the place of each value in their order; equal values share their mean place."""
  _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
  """Returns Pearson's coefficient; 0 where one does not vary."""
  a, b = a - a.mean(), b - b.mean()
  scale = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
  return float(np.sum(a * b)) / scale if scale else 0.0
