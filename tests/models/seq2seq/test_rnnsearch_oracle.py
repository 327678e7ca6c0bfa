"""The gated units beside PyTorch's, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.seq2seq import rnnsearch

torch = pytest.importorskip('torch')

M, N, B, T = 5, 4, 3, 6
GATES = rnnsearch.GATES


def weights(seed=0):
  keys = jax.random.split(jax.random.key(seed), 5)
  shapes = {'kernel': (M, 3 * N), 'bias': (3 * N,), **dict.fromkeys(GATES, (N, N))}
  return {
    name: jax.random.normal(key, shape)
    for key, (name, shape) in zip(keys, shapes.items(), strict=True)
  }


def inputs():
  return jax.random.normal(jax.random.key(9), (B, T, M)), jnp.arange(T)[None] < jnp.array(
    [[6], [4], [1]]
  )


def paper_in_torch(own, x, real, reverse):
  """Returns states [B, T, N] by the paper's equations, of which torch has no module."""
  state, states = torch.zeros(B, N), [None] * T
  for t in reversed(range(T)) if reverse else range(T):
    z, r, candidate = (x[:, t] @ own['kernel'] + own['bias']).chunk(3, -1)
    z = torch.sigmoid(z + state @ own['update'])
    r = torch.sigmoid(r + state @ own['reset'])
    new = (1 - z) * state + z * torch.tanh(candidate + (r * state) @ own['candidate'])
    state = torch.where(real[:, t, None], new, state)
    states[t] = state
  return torch.stack(states, 1), state


@pytest.mark.parametrize('reverse', [False, True])
def test_states_and_gradients_are_those_of_the_papers_equations(reverse):
  own, (x, real) = weights(), inputs()

  def ours(own, x):
    states, last = rnnsearch.run_gru(own, x, real, reverse=reverse)
    return (states**2).sum() + (3 * last).sum(), states

  (value, states), gradients = jax.value_and_grad(ours, argnums=(0, 1), has_aux=True)(own, x)
  leaves = {name: torch.tensor(np.array(y), requires_grad=True) for name, y in own.items()}
  there = torch.tensor(np.array(x), requires_grad=True)
  theirs, last = paper_in_torch(leaves, there, torch.tensor(np.array(real)), reverse)
  total = (theirs**2).sum() + (3 * last).sum()
  total.backward()
  np.testing.assert_allclose(value, total.item(), rtol=1e-5)
  np.testing.assert_allclose(states, theirs.detach(), atol=1e-5)
  np.testing.assert_allclose(gradients[1], there.grad, atol=1e-4)
  for name, leaf in leaves.items():
    np.testing.assert_allclose(gradients[0][name], leaf.grad, atol=1e-4)


def test_where_nothing_is_reset_it_is_torchs_own_gru():
  """Torch resets the product U s, the paper the state: they agree where the gate r is 1."""
  own, (x, _) = weights(), inputs()
  own['bias'] = own['bias'].at[N : 2 * N].set(60)
  theirs = torch.nn.GRU(M, N, batch_first=True)
  # Torch's order is reset, update, new, and its z is the share that is kept.
  signs = {'reset': 1, 'update': -1, 'candidate': 1}
  parts = dict(zip(GATES, jnp.split(jnp.arange(3 * N), 3), strict=True))
  with torch.no_grad():
    for ours, name in (('kernel', 'weight_ih_l0'), ('bias', 'bias_ih_l0')):
      rows = [sign * own[ours][..., parts[gate]] for gate, sign in signs.items()]
      getattr(theirs, name).copy_(torch.tensor(np.concatenate(rows, -1).T))
    rows = [sign * own[gate] for gate, sign in signs.items()]
    theirs.weight_hh_l0.copy_(torch.tensor(np.concatenate(rows, -1).T))
    theirs.bias_hh_l0.zero_()
    found, _ = theirs(torch.tensor(np.array(x)))
  states, _ = rnnsearch.run_gru(own, x, jnp.ones((B, T), bool))
  np.testing.assert_allclose(states, found, atol=1e-5)
