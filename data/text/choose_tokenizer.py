"""The tokenizer that `data.tokenizer` names: fixed, learnt from the text, or kept by the run."""

import os
import pathlib

import jax
from absl import logging

from data import cache, published
from data.checks import shown
from data.text import tokenizers
from data.text.datasets import Selection
from data.text.tokenizer import Tokenizer


def build(spec: str, train: Selection, evaluation: Selection) -> Tokenizer:
  """Returns the tokenizer that `spec` names.

  Args:
    spec: 'characters' (those of both selections, for others could not be encoded), 'bytes',
      'gpt2:FOLDER', 'gpt2' (see `gpt2_folder`), 'huggingface:FOLDER' (of another model), 'bpe:SIZE'
      (learnt from `train` alone) or 'numbers:SIZE'.
    train: the training split.
    evaluation: the evaluation split.

  Raises:
    ValueError: on another spec, or one that needs text where there is none.
  """
  if (fixed := without_text(spec)) is not None:
    return fixed
  used = train if spec != 'characters' else Selection((*train.parts, *evaluation.parts))
  folder = used.cache_entry('tokenizer', spec)
  if folder is None:
    return _learn(spec, used)

  def save(tokenizer: Tokenizer, folder: cache.Folder) -> None:
    tokenizer.save(folder)

  return cache.load_or_make(folder, tokenizers.load, lambda: _learn(spec, used), save)


def without_text(spec: str) -> Tokenizer | None:
  """Returns the tokenizer, or None if `spec` is right and needs text; raises ValueError else."""
  kind, _, argument = spec.partition(':')
  if spec == 'bytes':
    return tokenizers.Bytes()
  if kind == 'numbers' and argument.isdecimal() and int(argument):
    return tokenizers.Numbers(int(argument))
  if kind == 'gpt2' and (folder := argument or gpt2_folder()):
    return tokenizers.gpt2(folder)
  if kind == 'huggingface' and argument:
    return tokenizers.load(argument)
  if spec == 'gpt2':
    raise ValueError(
      "data.tokenizer='gpt2': write 'gpt2:FOLDER', or set GPT2_BPE_DIR to a folder with GPT-2's "
      'vocab.json and merges.txt (or encoder.json and vocab.bpe); `python launch.py prepare '
      f'gpt2_bpe` fetches them into {published.root() / "gpt2_bpe"}, where they are found'
    )
  if spec == 'characters' or (kind == 'bpe' and argument.isdecimal() and int(argument) > 256):
    return None
  raise ValueError(
    f'data.tokenizer={shown(spec)}: unknown; choices: characters, bytes, gpt2:FOLDER,'
    ' huggingface:FOLDER, bpe:SIZE (a SIZE of at least 257), numbers:SIZE'
  )


def gpt2_folder() -> str | None:
  """Returns the folder of GPT-2's vocabulary: $GPT2_BPE_DIR, or what `prepare` wrote; else None."""
  prepared = published.root() / 'gpt2_bpe'
  return os.environ.get('GPT2_BPE_DIR') or (str(prepared) if prepared.is_dir() else None)


def load_kept(spec: str, folder: str | None) -> Tokenizer | None:
  """Returns the tokenizer that a run keeps in `folder`, or None if it keeps none.

  Raises:
    ValueError: if it is not one that `spec` could name.
  """
  if folder is None or not tokenizers.holds_tokenizer(folder):
    return None
  found = tokenizers.load(folder)
  kind, _, size = spec.partition(':')
  name = 'bpe' if found.name == 'gpt2' else found.name
  sizes = {'bpe': range(int(size) + 1), 'numbers': [int(size)]} if size.isdecimal() else {}
  fits = found.vocab_size in sizes.get(kind, [found.vocab_size])  # a BPE may have stopped early
  if name != {'gpt2': 'bpe'}.get(kind, kind) or not fits:
    raise ValueError(
      f'data.tokenizer={spec!r}: {folder} keeps another one, {found.name} of {found.vocab_size}'
      ' tokens, with which this run began; another tokenizer wants another --workdir'
    )
  return found


def keep(tokenizer: Tokenizer, folder: str) -> None:
  """Saves a tokenizer with a run that keeps none yet; of several processes, the first does."""
  if jax.process_index() == 0 and not tokenizers.holds_tokenizer(folder):
    with cache.atomic_folder(pathlib.Path(folder)) as unfinished:
      tokenizer.save(unfinished)


def _learn(spec: str, used: Selection) -> Tokenizer:
  if spec != 'characters':
    bpe = tokenizers.train_bpe(used.documents(), int(spec.partition(':')[2]))
    logging.info('data.tokenizer=%r: learnt %d tokens of %s', spec, bpe.vocab_size, used.name)
    return bpe
  found: set[str] = set()
  for text in used.documents():
    found.update(text)
  if not found:
    raise used.empty()
  return tokenizers.characters(''.join(found))
