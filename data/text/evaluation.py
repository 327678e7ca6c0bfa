"""What a language model is evaluated on beside its own data: texts, multiple-choice questions."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jax.sharding import NamedSharding

from data import pipeline
from data.checks import shown
from data.text import files
from data.text.rows import RowLoader, Rows
from data.text.tokenizer import Tokenizer

FORM = '{"context": "...", "choices": ["...", "..."], "answer": 0}'  # of a line of questions
SHORTEST = 32  # targets of a row; row lengths double from here, since each is compiled


@contextlib.contextmanager
def batches(rows: Rows, sharding: NamedSharding, batch_size: int) -> Iterator[pipeline.EvalBatches]:
  """Gives batches of all rows once, in order, as `TextData.eval_batches` does."""
  pipeline.check_divisible('eval_batch_size', batch_size, sharding)
  with ThreadPoolExecutor(1, 'evaluation') as pool:
    yield pipeline.EvalBatches(RowLoader(rows, sharding, pool, 2), rows.size, batch_size)


# -------- a text --------


def read_text(path: str, tokenizer: Tokenizer) -> tuple[np.ndarray, dict[str, int]]:
  """Returns the token ids of a file, [N], and the counts of `data.text.corpus.Tokens`.

  If the tokenizer has a token that texts begin with, or an end-of-text token, the stream begins
  with it, from which the text's first token is predicted.

  Raises:
    ValueError: for a file that is not there, not UTF-8 or empty, for a character that no token
      stands for, and if there is nothing to predict.
  """
  text = files.read(pathlib.Path(os.path.expanduser(path)))
  if not text:
    raise ValueError(f'{path}: holds no text')
  [ids] = _encode_all(path, [text], tokenizer)
  first = first_token(tokenizer)
  stream = ids if first is None else np.concatenate([[first], ids])
  if len(stream) < 2:
    raise ValueError(
      f'{path}: has {len(ids)} tokens; must be at least 2, since the tokenizer {tokenizer.name} '
      'has no end-of-text token to predict the first from'
    )
  sizes = {'characters': len(text), 'bytes': len(text.encode()), 'words': len(text.split())}
  return stream, {'documents': 1, **sizes, 'tokens': len(ids)}


def first_token(tokenizer: Tokenizer) -> int | None:
  """Returns the token from which a text's first one is predicted."""
  return tokenizer.eot if tokenizer.bos is None else tokenizer.bos


def _encode_all(where: str, texts: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
  try:
    return tokenizer.encode_many(texts)
  except ValueError as error:
    raise ValueError(f'{where}: {error}') from error


# -------- questions --------


@dataclasses.dataclass(frozen=True)
class Question:
  """A multiple-choice question: which of `choices` continues `context`?

  where: for messages, such as 'quiz.jsonl, line 3'.
  context: the text before the choices.
  choices: at least two continuations.
  answer: the number of the right one.
  """

  where: str
  context: str
  choices: tuple[str, ...]
  answer: int


def read_questions(path: str) -> list[Question]:
  """Returns the questions of a file of JSON lines; other keys and empty lines are ignored.

  Raises:
    ValueError: with the line's number, for a line that is not as FORM has it.
  """
  lines = files.read(pathlib.Path(os.path.expanduser(path))).split('\n')
  numbered = ((f'{path}, line {n}', line) for n, line in enumerate(lines, 1) if line.strip())
  questions = [_question(where, line) for where, line in numbered]
  if not questions:
    raise ValueError(f'{path}: holds no questions; each line must be {FORM}')
  return questions


def _question(where: str, line: str) -> Question:
  try:
    found = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{where}: not JSON ({error}); must be {FORM}') from error
  if mistake := _mistake(found):
    raise ValueError(f'{where}: {mistake}; must be {FORM}')
  return Question(where, found['context'], tuple(found['choices']), found['answer'])


def _mistake(found: Any) -> str:
  """Returns what is not as FORM has it; '' if nothing is."""
  if not isinstance(found, dict):
    return 'not an object'
  if missing := [key for key in ('context', 'choices', 'answer') if key not in found]:
    return f'has no {missing[0]!r}'
  context, choices, answer = found['context'], found['choices'], found['answer']
  if not isinstance(context, str):
    return f'context={shown(context)} is not a text'
  if not isinstance(choices, list) or len(choices) < 2:
    return f'choices={shown(choices)} is not a list of at least two'
  if bad := [choice for choice in choices if not isinstance(choice, str) or not choice]:
    return f'the choice {shown(bad[0])} is not a text of at least one character'
  if type(answer) is not int or not 0 <= answer < len(choices):
    return f'answer={shown(answer)} is not a number from 0 to {len(choices) - 1}'
  return ''


# -------- choices as rows --------


@dataclasses.dataclass(frozen=True)
class Choice:
  """A choice of a question behind its context, as token ids.

  tokens: [n] of the context and the choice.
  num_context: the first so many tokens, at least 1, are not scored.
  num_truncated: tokens of the context that were left out, at its beginning.
  """

  tokens: np.ndarray
  num_context: int
  num_truncated: int = 0


def encode_choices(question: Question, tokenizer: Tokenizer, block_size: int) -> list[Choice]:
  """Returns the choices of a question, each behind as much of its context as fits into a block.

  Context and choice are encoded together, as the text that they are: apart, a choice could begin
  with a token that never stands there, and a space at a context's end would be a token of its own,
  where BPE has it as part of the next word. Not scored are the tokens that the context and all its
  choices have in common at the beginning, so that the choices are compared given the same; what a
  choice changes at the end of the context is scored with it. Without a common token, the
  end-of-text token is put in front; in any case the token that a model wants there.

  Raises:
    ValueError: if that is needed and the tokenizer has none, for a character that no token stands
      for, and for a choice that is longer than a block.
  """
  where, texts = question.where, [question.context + choice for choice in question.choices]
  context, *wholes = _encode_all(where, [question.context, *texts], tokenizer)
  num_context = min(_common_prefix(context, whole) for whole in wholes)
  if num_context == 0 or tokenizer.bos is not None:
    first = first_token(tokenizer)
    if first is None:
      raise ValueError(
        f'{where}: no token of the context {shown(question.context)} stands before the choices, and'
        f' the tokenizer {tokenizer.name} has no end-of-text token to stand there'
      )
    num_context, wholes = num_context + 1, [np.concatenate([[first], x]) for x in wholes]
  longest = max(map(len, wholes)) - num_context
  if longest > block_size:
    raise ValueError(
      f'{where}: a choice has {longest} tokens; must be at most data.block_size, {block_size}'
    )
  cuts = [max(0, len(whole) - block_size - 1) for whole in wholes]
  return [
    Choice(whole[cut:], num_context - cut, cut) for whole, cut in zip(wholes, cuts, strict=True)
  ]


def _common_prefix(a: np.ndarray, b: np.ndarray) -> int:
  """Returns the number of tokens that both begin with."""
  shorter = min(len(a), len(b))
  return int(np.argmin(np.append(a[:shorter] == b[:shorter], False)))


class PaddedChoices:
  """Choices as rows of `length` targets, padded at the end; mask 1 is where they are scored."""

  has_segments = False

  def __init__(self, choices: Sequence[Choice], length: int):
    self.size, self.block_size = len(choices), length
    self._tokens = np.zeros((self.size, length + 1), np.int32)
    self._mask = np.zeros((self.size, length), np.float32)
    for tokens, mask, choice in zip(self._tokens, self._mask, choices, strict=True):
      tokens[: len(choice.tokens)] = choice.tokens
      mask[choice.num_context - 1 : len(choice.tokens) - 1] = 1

  def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {'tokens': self._tokens[rows], 'mask': self._mask[rows]}


def length_buckets(choices: Sequence[Choice], block_size: int) -> dict[int, np.ndarray]:
  """Returns length of a row -> numbers of the choices that are padded to it."""
  targets = np.array([len(choice.tokens) - 1 for choice in choices])
  doubled = SHORTEST << np.ceil(np.log2(np.maximum(targets / SHORTEST, 1))).astype(int)
  lengths = np.minimum(doubled, block_size)
  return {int(length): np.flatnonzero(lengths == length) for length in np.unique(lengths)}
