"""Small language models for the tests, and what these do with them."""

import functools

import flax.linen as nn
import jax
import numpy as np

from models.gpt import GPT

VARIANTS = {
  'gpt2': {},
  'rope': {'positions': 'rope'},
  'rms': {'norm': 'rms'},
  'swiglu': {'mlp': 'swiglu'},
  'grouped': {'kv_heads': 2},
  'no_bias': {'bias': False},
  'qk_norm': {'qk_norm': True},
  'softcap': {'softcap': 2.0},
  'untied': {'tied': False},
  'modern': {
    'positions': 'rope',
    'norm': 'rms',
    'mlp': 'swiglu',
    'kv_heads': 1,
    'bias': False,
    'qk_norm': True,
    'softcap': 2.0,
    'tied': False,
  },
}


def small(**kwargs):
  """Scanned unless said, since one layer compiles sooner than two."""
  sizes = dict(vocab_size=31, block_size=24, layers=2, heads=4, width=16, scan=True)
  return GPT(**{**sizes, **kwargs})


def draw(*shape, seed=0, high=31):
  return np.random.default_rng(seed).integers(high, size=shape, dtype=np.int32)


def normals(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.cache
def start(model):
  """Variables whose every leaf is random, so that no bias or scale can be left out unseen."""
  model = model.clone(scan=False, remat='none', attention='auto', dtype='float32', dropout=0.0)
  variables = jax.eval_shape(model.init, jax.random.key(0), draw(1, 2))
  leaves, tree = jax.tree.flatten(nn.unbox(variables))
  values = [0.3 * normals(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)]
  return jax.tree.unflatten(tree, values)


@functools.partial(jax.jit, static_argnames=('model', 'train'))
def compiled(variables, tokens, segments, rngs, *, model, train):
  return model.apply(variables, tokens, segments=segments, rngs=rngs, train=train)


def run(model, tokens, variables=None, *, segments=None, rngs=None, train=False):
  variables = variables or start(model)
  return np.asarray(compiled(variables, tokens, segments, rngs, model=model, train=train))


def loss_and_gradients(model, tokens, chunk=0, weights=None, **kwargs):
  weights = np.ones_like(tokens[:, 1:], np.float32) if weights is None else weights

  def loss(variables):
    nats, total = model.apply(
      variables, tokens[:, :-1], tokens[:, 1:], weights, chunk=chunk, method='loss', **kwargs
    )
    return nats / total

  return jax.jit(jax.value_and_grad(loss))(start(model))


def assert_close(one, other, atol=2e-6, rtol=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=rtol), one, other)
