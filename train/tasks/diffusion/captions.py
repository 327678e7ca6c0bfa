"""Captions made of class names, and the encoder that reads them for a diffusion model."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from models.diffusion.text_encoder import TextEncoder
from train.config import UserError

WORDS = 'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'
LENGTH = 32  # bytes, at least
PARAMETERS = 'captions'  # among the network's


class Captions:
  """`text` with each class's name in place of {}, and its encoder of the width of the context.

  Digits are written out. A token is a byte; -1 fills up, and of nothing else it is no caption.
  """

  def __init__(self, text: str, classes: Sequence[str], width: int):
    self.texts = tuple(text.replace('{}', word(name)) for name in classes)
    self.length = max(LENGTH, *(len(caption.encode()) for caption in self.texts))
    self.table = np.stack([self.tokens(caption) for caption in (*self.texts, '')])
    self.encoder = TextEncoder(vocab_size=256, block_size=self.length, width=width)

  def tokens(self, text: str) -> np.ndarray:
    """int32 `[length]`. UserError for a text that is longer."""
    found = np.frombuffer(text.encode(), np.uint8)
    if len(found) > self.length:
      raise UserError(f'{text!r}: has {len(found)} bytes; a caption has {self.length} at most')
    return np.pad(found.astype(np.int32), (0, self.length - len(found)), constant_values=-1)

  def init(self, key: Array) -> dict[str, Any]:
    tokens = jnp.zeros((1, 2), jnp.int32)
    return {PARAMETERS: self.encoder.init(key, tokens)['params']}

  def read(self, params: Mapping[str, Any], labels: Array, rngs: Any = None) -> dict[str, Array]:
    """The network's `context` and `mask` of labels `[B]`, -1 for none, or of tokens `[B, L]`."""
    tokens = labels
    if labels.ndim == 1:
      tokens = jnp.asarray(self.table)[jnp.where(labels < 0, len(self.texts), labels)]
    variables = {'params': params[PARAMETERS]}
    context, mask = self.encoder.apply(variables, tokens, train=rngs is not None, rngs=rngs)
    return {'context': context, 'mask': mask}


def of(model: Any, condition: str, text: str, classes: Sequence[str]) -> Captions | None:
  """What the network is told of captions, if it is; UserError where it could not be."""
  width = getattr(model, 'context_width', 0)
  if condition != 'caption':
    if width:
      raise UserError(f"model.context_width={width}: is for task.condition='caption'")
    return None
  if not width:
    raise UserError("task.condition='caption': needs model.context_width, such as 64")
  if '{}' not in text:
    raise UserError(f"task.caption={text!r}: needs {{}}, where the class's name goes")
  return Captions(text, classes, width)


def word(name: str) -> str:
  return WORDS[int(name)] if name.isdecimal() and int(name) < len(WORDS) else name
