"""GPT-2 in PyTorch, as in nanoGPT, and Hugging Face's: what ours is measured against.

A shape is {vocab_size, block_size, layers, heads, width}, with which `GPT` is built.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.turns import Burst

STD = 0.02

Shape = Mapping[str, Any]
Engine = tuple[Burst, int, int]  # what is timed; numbers of parameters, and of tokens a call


class Norm(nn.Module):
  """LayerNorm whose bias may be missing."""

  def __init__(self, width, bias):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(width))
    self.bias = nn.Parameter(torch.zeros(width)) if bias else None

  def forward(self, x):
    return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Layer(nn.Module):
  """A transformer block; `flash` is PyTorch's fused attention, else the scores [T, T] are held."""

  def __init__(self, width, heads, bias, flash):
    super().__init__()
    self.heads, self.flash = heads, flash
    self.norm1, self.norm2 = Norm(width, bias), Norm(width, bias)
    self.qkv = nn.Linear(width, 3 * width, bias=bias)
    self.out = nn.Linear(width, width, bias=bias)
    self.up = nn.Linear(width, 4 * width, bias=bias)
    self.down = nn.Linear(4 * width, width, bias=bias)

  def forward(self, x):
    x = x + self.out(self.attend(*self.qkv(self.norm1(x)).split(x.shape[-1], 2)))
    return x + self.down(F.gelu(self.up(self.norm2(x)), approximate='tanh'))

  def attend(self, *qkv):
    """Attends causally; queries, keys and values are [B, T, D]."""
    B, T, D = qkv[0].shape
    q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in qkv)  # [B, H, T, d]
    if self.flash:
      y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
      scores = q @ k.transpose(2, 3) / math.sqrt(k.shape[-1])
      seen = torch.ones(T, T, dtype=torch.bool).tril()
      y = scores.masked_fill(~seen, -math.inf).softmax(-1) @ v
    return y.transpose(1, 2).reshape(B, T, D)


class GPT(nn.Module):
  """GPT-2, with output weights tied to the embedding."""

  def __init__(self, vocab_size, block_size, layers, heads, width, bias=True, flash=True):
    super().__init__()
    self.block_size = block_size
    self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(block_size, width)
    self.layers = nn.ModuleList(Layer(width, heads, bias, flash) for _ in range(layers))
    self.norm = Norm(width, bias)
    for name, p in self.named_parameters():
      if p.dim() == 2:
        ends_residual = name.endswith(('out.weight', 'down.weight'))
        nn.init.normal_(p, std=STD / math.sqrt(2 * layers) if ends_residual else STD)

  def hidden(self, tokens):
    """Returns the normalized output of the last block, [B, T, D]."""
    x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
    for layer in self.layers:
      x = layer(x)
    return self.norm(x)

  def forward(self, tokens):
    return F.linear(self.hidden(tokens), self.tokens.weight)

  @torch.no_grad()
  def generate(self, tokens, count, top_k):
    """Appends `count` tokens, each from the whole text so far: nanoGPT keeps no cache."""
    for _ in range(count):
      last = self.hidden(tokens[:, -self.block_size :])[:, -1]
      logits = F.linear(last, self.tokens.weight)
      least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
      weights = logits.masked_fill(logits < least, -math.inf).softmax(-1)
      tokens = torch.cat([tokens, torch.multinomial(weights, 1)], 1)
    return tokens


def training(shape: Shape, batch: int, *, flash: bool, fused: bool) -> Engine:
  """Returns a function of n training steps; the number of parameters, and of tokens a step."""
  model = GPT(**shape, flash=flash).train()
  groups = [
    {'params': [p for p in model.parameters() if p.dim() >= 2], 'weight_decay': 0.1},
    {'params': [p for p in model.parameters() if p.dim() < 2], 'weight_decay': 0.0},
  ]
  optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=fused)
  rng = np.random.default_rng(0)
  text = rng.integers(shape['vocab_size'], size=(batch, shape['block_size'] + 1))
  tokens = torch.from_numpy(text)

  def burst(steps):
    for _ in range(steps):
      logits = model(tokens[:, :-1])
      loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
      loss.backward()
      torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
      optimizer.step()
      optimizer.zero_grad(set_to_none=True)
    loss.item()

  tokens_a_call = batch * shape['block_size']
  return burst, sum(p.numel() for p in model.parameters()), tokens_a_call


def generation(shape: Shape, batch: int, prompt: int, count: int, top_k: int) -> Engine:
  """Returns a function that generates 2 tokens a sequence n times; numbers of parameters, tokens.

  Without a cache a token costs what the text before it is long. The two lengths are those of
  Gauss's rule over `count` tokens, whose mean is exact for costs up to the cube of the length.
  """
  model = GPT(**shape).eval()
  lengths = [prompt + round(count * (0.5 + side / 12**0.5)) for side in (-1, 1)]
  texts = [torch.zeros((batch, length), dtype=torch.int64) for length in lengths]

  def burst(calls):
    for _ in range(calls):
      for text in texts:
        model.generate(text, 1, top_k)

  return burst, sum(p.numel() for p in model.parameters()), len(texts) * batch


def hugging_face(shape: Shape, batch: int, prompt: int, count: int, top_k: int) -> Engine:
  """Returns the same for GPT2LMHeadModel.generate, which has a cache: `count` tokens a call."""
  from transformers import GPT2Config, GPT2LMHeadModel, logging

  logging.set_verbosity_error()  # it warns of a mask that is all ones
  config = GPT2Config(
    vocab_size=shape['vocab_size'],
    n_positions=shape['block_size'],
    n_embd=shape['width'],
    n_layer=shape['layers'],
    n_head=shape['heads'],
    bos_token_id=0,
    eos_token_id=None,
    pad_token_id=0,
  )
  model = GPT2LMHeadModel(config).eval()
  tokens = torch.zeros((batch, prompt), dtype=torch.int64)
  mask = torch.ones_like(tokens)

  def burst(calls):
    for _ in range(calls):
      out = model.generate(
        tokens,
        attention_mask=mask,
        do_sample=True,
        top_k=top_k,
        min_new_tokens=count,
        max_new_tokens=count,
      )
    if out.shape != (batch, prompt + count):
      raise RuntimeError(f'{tuple(out.shape)}: {count} tokens were wanted')

  return burst, sum(p.numel() for p in model.parameters()), batch * count
