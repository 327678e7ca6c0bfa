"""Captions made of class names, and their encoder for a diffusion model."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from models.diffusion.text_encoder import TextEncoder
from train.errors import UserError
from train.tasks.diffusion.options import Conditioning

DIGITS = 'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'
MIN_LENGTH = 32  # bytes
PARAMETERS = 'captions'  # the name of the encoder's parameters among the network's


class Captions:
  """The captions of the classes, and their encoder.

  Captions are UTF-8 bytes padded with -1. A row of only -1 means "no caption" (classifier-free
  guidance).

  template: the caption, in which {} stands for the class's name; digits are spelled out.
  classes: their names.
  width: D of the context.
  """

  def __init__(self, template: str, classes: Sequence[str], width: int):
    self.texts = tuple(template.replace('{}', spelled_out(name)) for name in classes)
    self.length = max(MIN_LENGTH, *(len(caption.encode()) for caption in self.texts))
    self.table = np.stack([self.tokens(caption) for caption in (*self.texts, '')])
    self.encoder = TextEncoder(vocab_size=256, block_size=self.length, width=width)

  def tokens(self, text: str) -> np.ndarray:
    """Returns the bytes of a text padded with -1, int32 `[length]`; UserError if it is longer."""
    found = np.frombuffer(text.encode(), np.uint8)
    if len(found) > self.length:
      raise UserError(f'{text!r}: has {len(found)} bytes; a caption has {self.length} at most')
    return np.pad(found.astype(np.int32), (0, self.length - len(found)), constant_values=-1)

  def init(self, key: Array) -> dict[str, Any]:
    """Returns the encoder's fresh parameters under their name."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    return {PARAMETERS: self.encoder.init(key, tokens)['params']}

  def encode(self, params: Mapping[str, Any], labels: Array, rngs: Any = None) -> dict[str, Array]:
    """Returns the `context` `[B, L, D]` and `mask` `[B, L]` of labels `[B]` or tokens `[B, L]`."""
    tokens = labels
    if labels.ndim == 1:
      tokens = jnp.asarray(self.table)[jnp.where(labels < 0, len(self.texts), labels)]
    variables = {'params': params[PARAMETERS]}
    context, mask = self.encoder.apply(variables, tokens, train=rngs is not None, rngs=rngs)
    return {'context': context, 'mask': mask}


def build(conditioning: Conditioning, classes: Sequence[str], width: int) -> Captions | None:
  """Returns the captions of a network with this context width; None without conditioning on them.

  Raises UserError if network and conditioning do not fit.
  """
  if conditioning.on != 'caption':
    if width:
      raise UserError(f"model.context_width={width}: is for task.conditioning.on='caption'")
    return None
  if not width:
    raise UserError("task.conditioning.on='caption': needs model.context_width, such as 64")
  if '{}' not in conditioning.caption:
    caption = conditioning.caption
    raise UserError(f"task.conditioning.caption={caption!r}: needs {{}} for the class's name")
  return Captions(conditioning.caption, classes, width)


def spelled_out(name: str) -> str:
  """Returns a digit as its word, any other name as it is."""
  return DIGITS[int(name)] if name.isdecimal() and int(name) < len(DIGITS) else name
