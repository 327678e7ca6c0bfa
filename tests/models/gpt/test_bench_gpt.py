"""The networks that `benchmarks/gpt.py` times against each other are the same ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.gpt import GPT, num_params, unboxed

torch = pytest.importorskip('torch')
from benchmarks import torch_gpt  # noqa: E402

SHAPE = {'vocab_size': 11, 'block_size': 12, 'layers': 2, 'heads': 2, 'width': 8}


def to_torch(params, bias):
  """PyTorch's names for our parameters; its kernels are transposed."""
  names = {'weight': 'kernel', 'bias': 'bias'} if bias else {'weight': 'kernel'}
  scales = {'weight': 'scale', 'bias': 'bias'} if bias else {'weight': 'scale'}
  own = {
    'tokens.weight': params['token_embed']['embedding'],
    'positions.weight': params['position_embed']['embedding'],
  }
  own |= {f'norm.{theirs}': params['final_norm'][ours] for theirs, ours in scales.items()}
  for i in range(SHAPE['layers']):
    block = jax.tree.map(lambda x: x[i], params['blocks'])  # noqa: B023
    for name in ('norm1', 'norm2'):
      own |= {f'layers.{i}.{name}.{a}': block[name][b] for a, b in scales.items()}
    for name in ('qkv', 'out', 'up', 'down'):
      parts = ('query', 'key', 'value') if name == 'qkv' else (name,)
      for a, b in names.items():
        own[f'layers.{i}.{name}.{a}'] = jnp.concatenate([block[part][b] for part in parts], -1).T
  return {name: torch.from_numpy(np.array(x)) for name, x in own.items()}


@pytest.mark.long
@pytest.mark.parametrize('bias, flash', [(False, True), (True, False)])
def test_logits_of_the_same_weights_are_the_same(bias, flash):
  ours, theirs = GPT(**SHAPE, bias=bias), torch_gpt.GPT(**SHAPE, bias=bias, flash=flash)
  tokens = np.random.default_rng(0).integers(11, size=(3, 12))
  variables = unboxed(ours.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
  # So that no bias is 0 and no score is next to it.
  variables = jax.tree.map(
    lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), variables
  )
  theirs.load_state_dict(to_torch(variables['params'], bias))
  logits = theirs(torch.from_numpy(tokens)).detach().numpy()
  np.testing.assert_allclose(jax.jit(ours.apply)(variables, tokens), logits, rtol=1e-4, atol=1e-4)
  assert sum(p.numel() for p in theirs.parameters()) == num_params(ours)


def test_their_engines_write_and_learn():
  pytest.importorskip('transformers')
  for engine in (torch_gpt.generation, torch_gpt.hugging_face):
    burst, parameters, tokens = engine(SHAPE, 2, 3, 5, 4)
    burst(1)
    assert parameters == num_params(GPT(**SHAPE))
    assert tokens == (10 if engine is torch_gpt.hugging_face else 4)
  burst, *_ = torch_gpt.training({**SHAPE, 'bias': False}, 2, flash=True, fused=False)
  burst(1)
  tokens = torch_gpt.GPT(**SHAPE).generate(torch.zeros((2, 10), dtype=torch.int64), 5, 4)
  assert tokens.shape == (2, 15)  # beyond the block
