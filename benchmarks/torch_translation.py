"""The Transformer of 2017 in PyTorch, by hand and by torch.nn, and Hugging Face's beam search.

A shape is {vocab_size, layers, heads, width, mlp_width}, with which `Transformer` is built. Nets
and bursts are what `benchmarks/translation.py` times ours against.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.turns import Burst

Shape = Mapping[str, Any]
Engine = tuple[Burst, int, int]  # what is timed; numbers of parameters, and of pieces a call
PAD, BOS, EOS = 0, 1, 2
DROPOUT, SMOOTHING = 0.3, 0.1


class Attention(nn.Module):
  """Attention with one product for queries, keys and values, or two where keys are elsewhere."""

  def __init__(self, width, heads):
    super().__init__()
    self.heads = heads
    self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
    self.out = nn.Linear(width, width)

  def forward(self, x, memory=None, **mask):
    if memory is None:
      weight = torch.cat([self.query.weight, self.key_value.weight])
      bias = torch.cat([self.query.bias, self.key_value.bias])
      q, k, v = F.linear(x, weight, bias).chunk(3, -1)
    else:
      q, (k, v) = self.query(x), self.key_value(memory).chunk(2, -1)
    q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, **mask)
    return self.out(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
  """A post-norm layer, of the decoder if it attends to a memory."""

  def __init__(self, width, heads, mlp_width, decoder):
    super().__init__()
    self.attend = Attention(width, heads)
    self.attend_memory: Any = Attention(width, heads) if decoder else None
    self.up, self.down = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)
    self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if decoder else 2))

  def forward(self, x, mask, memory=None, memory_mask=None):
    parts = [lambda x: self.attend(x, **mask)]
    if memory is not None:
      parts.append(lambda x: self.attend_memory(x, memory, **memory_mask))
    parts.append(lambda x: self.down(F.relu(self.up(x))))
    for norm, part in zip(self.norms, parts, strict=True):
      x = norm(x + F.dropout(part(x), DROPOUT, self.training))
    return x


class Transformer(nn.Module):
  """As published; by torch.nn's layers if `library`, which also drop attention weights."""

  waves: torch.Tensor
  encoder: Any
  decoder: Any

  def __init__(self, vocab_size, layers, heads, width, mlp_width, library=False):
    super().__init__()
    self.table, self.library = nn.Embedding(vocab_size, width), library
    nn.init.normal_(self.table.weight, std=width**-0.5)
    rates = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(256)[:, None] * rates
    waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
    self.register_buffer('waves', waves, persistent=False)
    if library:
      options: dict[str, Any] = {'dropout': DROPOUT, 'batch_first': True}
      encoder = nn.TransformerEncoderLayer(width, heads, mlp_width, **options)
      decoder = nn.TransformerDecoderLayer(width, heads, mlp_width, **options)
      self.encoder = nn.TransformerEncoder(encoder, layers, enable_nested_tensor=False)
      self.decoder = nn.TransformerDecoder(decoder, layers)
    else:
      self.encoder, self.decoder = (
        nn.ModuleList(Layer(width, heads, mlp_width, decoder) for _ in range(layers))
        for decoder in (False, True)
      )

  def embed(self, pieces):
    x = self.table(pieces) * math.sqrt(self.table.embedding_dim) + self.waves[: pieces.shape[1]]
    return F.dropout(x, DROPOUT, self.training)

  def forward(self, source, target):
    """Returns logits [B, T, V] of each piece of the target."""
    y = self.embed(F.pad(target[:, :-1], (1, 0), value=BOS))
    x, padding = self.embed(source), source == PAD
    if self.library:
      causal = nn.Transformer.generate_square_subsequent_mask(y.shape[1])
      x = self.encoder(x, src_key_padding_mask=padding)
      y = self.decoder(y, x, causal, memory_key_padding_mask=padding, tgt_is_causal=True)
    else:
      real = {'attn_mask': ~padding[:, None, None]}
      for layer in self.encoder:
        x = layer(x, real)
      for layer in self.decoder:
        y = layer(y, {'is_causal': True}, x, real)
    return F.linear(y, self.table.weight)


def training(shape: Shape, source: np.ndarray, target: np.ndarray, *, library: bool) -> Engine:
  """Returns a function of n training steps; the number of parameters, and of pieces a step."""
  model = Transformer(**shape, library=library).train()
  optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98), fused=True)
  sides = [torch.from_numpy(side.astype(np.int64)) for side in (source, target)]

  def burst(steps):
    for _ in range(steps):
      logits = model(*sides).flatten(0, 1)
      loss = F.cross_entropy(
        logits, sides[1].flatten(), ignore_index=PAD, label_smoothing=SMOOTHING
      )
      loss.backward()
      optimizer.step()
      optimizer.zero_grad(set_to_none=True)
    loss.item()

  return burst, sum(p.numel() for p in model.parameters()), target.size


def hugging_face(shape: Shape, source: np.ndarray, beams: int, count: int) -> Engine:
  """Returns a function that writes `count` pieces for each source n times, by Marian's network."""
  from transformers import GenerationConfig, MarianConfig, MarianMTModel, logging

  logging.set_verbosity_error()
  config = MarianConfig(
    vocab_size=shape['vocab_size'],
    d_model=shape['width'],
    **{f'{side}_layers': shape['layers'] for side in ('encoder', 'decoder')},
    **{f'{side}_attention_heads': shape['heads'] for side in ('encoder', 'decoder')},
    **{f'{side}_ffn_dim': shape['mlp_width'] for side in ('encoder', 'decoder')},
    activation_function='relu',
    scale_embedding=True,
    max_position_embeddings=256,
    pad_token_id=PAD,
    eos_token_id=EOS,
    forced_eos_token_id=None,
    decoder_start_token_id=BOS,
  )
  model = MarianMTModel(config).eval()
  pieces = torch.from_numpy(source.astype(np.int64))
  search = GenerationConfig(
    num_beams=beams,
    length_penalty=0.6,
    min_new_tokens=count,
    max_new_tokens=count,
    pad_token_id=PAD,
    eos_token_id=EOS,
    decoder_start_token_id=BOS,
  )

  def burst(calls):
    for _ in range(calls):
      out = model.generate(pieces, attention_mask=pieces != PAD, generation_config=search)
    if out.shape != (len(source), count + 1):
      raise RuntimeError(f'{tuple(out.shape)}: {count} pieces were wanted')

  return burst, sum(p.numel() for p in model.parameters() if p.requires_grad), len(source) * count
