"""The DiT of Peebles and Xie 2023 in torch, with the names of their code."""

import math

import numpy as np
import torch
from torch import nn


def sincos(width, index):
  angles = np.outer(index.reshape(-1), 10_000.0 ** (-np.arange(width // 2) / (width / 2)))
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


class TimestepEmbedder(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

  def forward(self, t):
    angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(128) / 128)[None]
    return self.mlp(torch.cat([torch.cos(angles), torch.sin(angles)], -1))


class LabelEmbedder(nn.Module):
  def __init__(self, classes, width):
    super().__init__()
    self.embedding_table = nn.Embedding(classes + 1, width)


class PatchEmbed(nn.Module):
  def __init__(self, patch, width):
    super().__init__()
    self.proj = nn.Conv2d(4, width, patch, patch)


class Attention(nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

  def forward(self, x):
    B, T, D = x.shape
    q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
    y = nn.functional.scaled_dot_product_attention(q, k, v)
    return self.proj(y.transpose(1, 2).reshape(B, T, D))


class Mlp(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

  def forward(self, x):
    return self.fc2(nn.functional.gelu(self.fc1(x), approximate='tanh'))


def modulated(x, shift, scale):
  return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.attn, self.mlp = Attention(width, heads), Mlp(width)
    self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

  def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
    x = x + gate1[:, None] * self.attn(modulated(x, shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulated(x, shift2, scale2))


class FinalLayer(nn.Module):
  def __init__(self, width, patch):
    super().__init__()
    self.linear = nn.Linear(width, patch * patch * 8)
    self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

  def forward(self, x, c):
    return self.linear(modulated(x, *self.adaLN_modulation(c).chunk(2, dim=1)))


class DiT(nn.Module):
  def __init__(self, width=128, heads=2, layers=2, patch=2, size=8, classes=5):
    super().__init__()
    self.patch, self.side = patch, size // patch
    self.x_embedder, self.t_embedder = PatchEmbed(patch, width), TimestepEmbedder(width)
    self.y_embedder = LabelEmbedder(classes, width)
    column, row = np.meshgrid(np.arange(self.side), np.arange(self.side))  # columns come first
    places = np.concatenate([sincos(width // 2, column), sincos(width // 2, row)], axis=1)
    places = torch.tensor(places, dtype=torch.float32)[None]
    self.pos_embed = nn.Parameter(places, requires_grad=False)
    self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
    self.final_layer = FinalLayer(width, patch)

  def forward(self, x, t, y):
    h = self.x_embedder.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
    c = self.t_embedder(t) + self.y_embedder.embedding_table(y)
    for block in self.blocks:
      h = block(h, c)
    h = self.final_layer(h, c).reshape(len(x), self.side, self.side, self.patch, self.patch, 8)
    return torch.einsum('nhwpqc->nchpwq', h).reshape(len(x), 8, *x.shape[2:])
