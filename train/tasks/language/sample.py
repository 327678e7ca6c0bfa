"""Writes texts with a language model: shows them while they are made, and keeps them in a file."""

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import jax
import numpy as np
from jax import Array

from data.text.tokenizer import IncrementalDecoder, Tokenizer
from models.axes import CONTEXT_AXIS, mesh_size
from models.gpt import LanguageModel
from models.gpt.generation import DEFAULT_SAMPLING, NotFiniteError, generate
from models.gpt.sampling import Sampling
from train import mesh as mesh_lib
from train.errors import UserError, shown, user_errors
from train.task import Variables

FILE = 'texts.jsonl'
BLOCK = 8  # tokens between two looks at the texts
AT_ONCE = 64  # texts of a batch: each has a cache
MOST_SAMPLES = 100_000
# What acts on a terminal instead of being shown, but for tabs and ends of lines.
CONTROL = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')

# -------- one text --------


class GrowingText:
  """A text while its tokens are made.

  Attributes:
    prompt: what it begins with.
    text: the prompt and what is sure to follow it: not half a character, nor what may turn out to
      be the beginning of a stop string.
    tokens: how many were made, without the prompt's.
    ended: '', or why no more are made: 'end of text', 'stop', or 'length'.
  """

  def __init__(self, tokenizer: Tokenizer, prompt: str = '', stop: Sequence[str] = ()):
    self._stream, self._ends = IncrementalDecoder(tokenizer), tokenizer.ends
    self._stop = tuple(stop)
    self._held = ''
    self.prompt = self.text = prompt
    self.tokens, self.ended = 0, ''

  def push(self, ids: Sequence[int]) -> None:
    """Adds the next tokens; the text may end among them."""
    for token in ids:
      if self.ended:
        return
      self.tokens += 1
      if token in self._ends:
        self.close('end of text')
      else:
        self._add(self._stream.push([token]))

  def close(self, reason: str = 'length') -> None:
    """Ends the text: what was held back belongs to it."""
    if not self.ended:
      self._add(self._stream.end())
    if not self.ended:
      self.text, self._held, self.ended = self.text + self._held, '', reason

  def _add(self, new: str) -> None:
    """Adds characters; the stop string that is complete first ends the text where it begins."""
    held = self._held + new
    found = [(at + len(stop), at) for stop in self._stop if (at := held.find(stop)) >= 0]
    sure = min(found)[1] if found else len(held) - self._beginning(held)
    self.text, self._held = self.text + held[:sure], held[sure:]
    self.ended = 'stop' if found else ''

  def _beginning(self, held: str) -> int:
    """Returns how many of the last characters are the beginning of a stop string."""
    sizes = (n for stop in self._stop for n in range(1, len(stop)) if held.endswith(stop[:n]))
    return max(sizes, default=0)


def first_tokens(tokenizer: Tokenizer, prompt: str, name: str = 'prompt') -> list[int]:
  """Returns a prompt's tokens, one at least.

  The token that a model wants in front comes first. For an empty prompt without such a token it is
  the end-of-text token, or where there is none a line break, or token 0.

  Args:
    tokenizer: of the model.
    prompt: a text.
    name: the option that an error names.

  Raises:
    UserError: a character has no token.
  """
  try:
    if tokenizer.bos is not None:
      return [tokenizer.bos, *tokenizer.encode(prompt)]
    if prompt or tokenizer.eot is None:
      return tokenizer.encode(prompt or '\n')
    return [tokenizer.eot]
  except ValueError as error:
    if not prompt:
      return [0]
    start = prompt if len(prompt) <= 40 else f'{prompt[:37]}...'
    raise UserError(f'{name}={start!r}: {error}') from error


# -------- the network's part --------


def compose(
  model: LanguageModel,
  variables: Variables,
  tokenizer: Tokenizer,
  texts: Sequence[GrowingText],
  keys: Array,
  *,
  tokens: int,
  sampling: Sampling = DEFAULT_SAMPLING,
  on_block: Callable[[], None] = lambda: None,
) -> None:
  """Continues all texts, AT_ONCE of them at a time, from their prompts until the last has ended.

  On a mesh every process has to call it; each makes all texts.

  Args:
    model: the network.
    variables: its variables.
    tokenizer: of the model.
    texts: what to continue.
    keys: those of `generate`.
    tokens: how many new tokens a text gets at most.
    sampling: how a token is chosen.
    on_block: called when texts have a few tokens more.

  Raises:
    NotFiniteError: the network's logits are not finite; the texts hold what was made until then.
  """
  how: dict[str, Any] = {
    'max_tokens': tokens,
    'sampling': sampling,
    'stop_ids': tokenizer.ends,
    'chunk': BLOCK,
  }
  if keys.ndim == 0:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(keys, np.arange(len(texts)))
  with mesh_lib.on_one_device((variables, keys)) as (weights, keys):
    for start in range(0, len(texts), AT_ONCE):
      some, own = texts[start : start + AT_ONCE], keys[start : start + AT_ONCE]
      prompts = [first_tokens(tokenizer, text.prompt) for text in some]
      for block in generate(model, weights, prompts, own, **how):
        for text, row in zip(some, block.tolist(), strict=True):
          text.push(row)
        on_block()
        if all(text.ended for text in some):
          break
      for text in some:
        text.close()


# -------- what the verb sample does --------


@dataclasses.dataclass(frozen=True)
class TextRequest:
  """What the verb sample is asked for.

  Attributes:
    prompts: what the texts go on from.
    samples: how many texts go on from each.
    tokens: how many new tokens a text gets at most.
    sampling: how a token is chosen.
    stop: a text ends before any of these strings; those in the prompt do not count.
    seed: from 0 to 2^63 - 1.

  Raises:
    UserError: a value is outside of its range.
  """

  prompts: Sequence[str]
  samples: int
  tokens: int
  sampling: Sampling
  stop: Sequence[str]
  seed: int

  def __post_init__(self):
    for name in ('samples', 'tokens'):
      if getattr(self, name) < 1:
        raise UserError(f'{name}={getattr(self, name)}: must be at least 1')
    if self.samples > MOST_SAMPLES:
      raise UserError(f'samples={shown(self.samples)}: must be at most {MOST_SAMPLES:,}')
    if not self.prompts:
      raise UserError('prompt=[]: give at least one; an empty text will do')
    if '' in self.stop:
      raise UserError("stop='': must have a character or more")
    with user_errors():
      ''.join(self.stop).encode()  # raises on bytes of a shell that are not UTF-8
    if not 0 <= self.seed < 2**63:
      raise UserError(f'seed={self.seed}: must be at least 0 and less than 2**63')

  def texts(self, tokenizer: Tokenizer) -> list[GrowingText]:
    """Returns the texts, all samples of the first prompt first."""
    prompts = (prompt for prompt in self.prompts for _ in range(self.samples))
    return [GrowingText(tokenizer, prompt, self.stop) for prompt in prompts]

  @property
  def keys(self) -> Array:
    """A key for each text, from the seed and the sample's number: whatever the other prompts."""
    numbers = np.tile(np.arange(self.samples), len(self.prompts))
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.seed), numbers)


def sample(
  model: LanguageModel,
  variables: Variables,
  tokenizer: Tokenizer,
  folder: str,
  request: TextRequest,
) -> None:
  """Shows the texts on stdout as they are made, and adds them to `texts.jsonl` in the folder."""
  sizes = {len(first_tokens(tokenizer, prompt)) for prompt in request.prompts}
  if max(sizes) > model.block_size:
    _note(f'prompt of {max(sizes):,} tokens: the network reads the last {model.block_size:,}')
  if (devices := mesh_size(CONTEXT_AXIS)) > 1:
    _note(f'mesh.context={devices}: is for training and evaluation; one device writes')
  texts = request.texts(tokenizer)
  screen, clock = Screen(texts), Pacer(texts)

  def on_block() -> None:
    screen.refresh()
    clock.tick()

  screen.refresh()
  how: dict[str, Any] = {'tokens': request.tokens, 'sampling': request.sampling}
  try:
    compose(model, variables, tokenizer, texts, request.keys, **how, on_block=on_block)
  except NotFiniteError as error:
    screen.close()
    where = keep(folder, [text for text in texts if text.tokens], request)
    raise UserError(f'{error}; what came before is kept in {where}') from error
  screen.close()
  _note(f'{clock}; kept in {keep(folder, texts, request)}')


def keep(folder: str, texts: Sequence[GrowingText], request: TextRequest) -> str:
  """Adds a line of JSON for each text, with all that made it, and returns the file's path."""
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, FILE)
  how = {'seed': request.seed, 'stop': list(request.stop), **dataclasses.asdict(request.sampling)}
  with open(path, 'a', encoding='utf-8') as file:
    for i, text in enumerate(texts):
      line = {'prompt': text.prompt, 'sample': i % request.samples, 'text': text.text}
      line |= {'tokens': text.tokens, 'ended': text.ended, **how}
      file.write(json.dumps(line, ensure_ascii=False) + '\n')
  return path


class Screen:
  """Shows texts one below the other: each while it grows, once those above it have ended."""

  def __init__(self, texts: Sequence[GrowingText], out: TextIO | None = None):
    self._texts, self._out = texts, out or sys.stdout
    self._at, self._shown = 0, 0  # which text, and how many of its characters

  def refresh(self) -> None:
    """Writes what the texts have gained."""
    self._show(self._texts[self._at])
    while self._texts[self._at].ended and self._at + 1 < len(self._texts):
      self._end_line()
      self._at, self._shown = self._at + 1, 0
      self._put(f'-------- {self._at + 1} of {len(self._texts)} --------\n')
      self._show(self._texts[self._at])

  def close(self) -> None:
    """Writes the rest and ends the line."""
    self.refresh()
    self._end_line()

  def _show(self, text: GrowingText) -> None:
    self._put(text.text[self._shown :])
    self._shown = len(text.text)

  def _end_line(self) -> None:
    if not self._texts[self._at].text.endswith('\n'):
      self._put('\n')

  def _put(self, text: str) -> None:
    """Writes a text; what the terminal's encoding lacks becomes '?'.

    To a file or a pipe it goes as it is; on a terminal, where it could erase or forge what is
    shown, a control character becomes its escape.
    """
    encoding = self._out.encoding or 'utf-8'
    if self._out.isatty():
      text = CONTROL.sub(lambda found: repr(found[0])[1:-1], text.replace('\r\n', '\n'))
    self._out.write(text.encode(encoding, 'replace').decode(encoding))
    self._out.flush()


class Pacer:
  """Measures tokens a second, without the first block, which waits for the compiler."""

  def __init__(self, texts: Sequence[GrowingText]):
    self._texts = texts
    self._ticks: list[tuple[int, float]] = []  # tokens of all texts, seconds

  def tick(self) -> None:
    """Notes how many tokens there are now."""
    self._ticks.append((sum(text.tokens for text in self._texts), time.perf_counter()))

  def __str__(self) -> str:
    (first, start), (last, end) = self._ticks[0], self._ticks[-1]
    speed = f', {(last - first) / (end - start):,.0f} tokens/s' if last > first else ''
    return f'{last:,} tokens{speed}'


def _note(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
