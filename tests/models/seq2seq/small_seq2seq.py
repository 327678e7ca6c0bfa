"""A small Transformer with weights drawn at random, and sources and targets for it."""

import jax
import numpy as np
from flax import linen as nn

import models
from models.seq2seq.contract import EOS

SMALL = {'layers': 2, 'heads': 2, 'width': 16, 'mlp_width': 24, 'dropout': 0.0}


def small(vocab_size=23, **kwargs):
  return models.build('transformer', vocab_size=vocab_size, **{**SMALL, **kwargs})


def start(model):
  """Variables whose every leaf is random, so that no bias or scale can be left out unseen."""
  pieces = jax.ShapeDtypeStruct((1, 2), np.int32)
  leaves, tree = jax.tree.flatten(
    nn.unbox(jax.eval_shape(model.init, jax.random.key(0), pieces, pieces))
  )
  rng = np.random.default_rng(0)
  values = [rng.normal(0, 0.5, leaf.shape).astype(np.float32) for leaf in leaves]
  return jax.tree.unflatten(tree, values)


def sentences(lengths, size, vocab_size=23, seed=0):
  """int32 [B, size]: rows of these lengths, EOS included, padded with 0."""
  rows = np.random.default_rng(seed).integers(3, vocab_size, (len(lengths), size)).astype(np.int32)
  at = np.arange(size)
  rows[at >= np.asarray(lengths)[:, None]] = 0
  rows[np.arange(len(lengths)), np.asarray(lengths) - 1] = EOS
  return rows
