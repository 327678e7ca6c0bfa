"""The same priors, values and selection policy give the same trees as mctx, visit for visit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts.search import search
from mcts.search.policies import Gumbel, Puct, halving_table
from tests.mcts.search import synthetic

mctx = pytest.importorskip('mctx')

AS_MCTX = Puct(fpu='lowest', rescale_q=True)


@functools.partial(jax.jit, static_argnames=('actions', 'simulations', 'selection', 'spread'))
def both(arrays, noise_key, *, actions, simulations, selection, spread):
  """Our tree and mctx's, which is given the same Gumbel noise."""
  root, expand, _ = synthetic.make(1, actions, spread=spread)
  logits, value, seeds, invalid = arrays
  root = type(root)(
    state=seeds,
    node=seeds,
    logits=jnp.where(invalid, -jnp.inf, logits),
    value=value,
    done=jnp.zeros_like(value, bool),
  )
  ours = search(root, expand, noise_key, num_simulations=simulations, selection=selection)
  their_root, recurrent, invalid = synthetic.for_mctx(mctx, arrays, actions, spread=spread)
  options = dict(invalid_actions=invalid, num_simulations=simulations)
  if isinstance(selection, Puct):
    theirs = mctx.muzero_policy(
      (), noise_key, their_root, recurrent, dirichlet_fraction=0.0, **options
    )
  else:
    theirs = mctx.gumbel_muzero_policy(
      (),
      noise_key,
      their_root,
      recurrent,
      gumbel_scale=0.0,
      max_num_considered_actions=selection.max_num_considered_actions,
      **options,
    )
  keys = jax.vmap(jax.random.fold_in, (None, 0))(noise_key, jnp.arange(len(seeds)))
  return ours, theirs, selection.decide(ours, keys, 0.0)


CASES = [
  (8, 5, 64, 4.0, 0.0),
  (4, 9, 200, 2.0, 0.3),
  pytest.param(4, 82, 128, 6.0, 0.2, marks=pytest.mark.slow),
  pytest.param(2, 3, 300, 12.0, 0.0, marks=pytest.mark.slow),
]


@pytest.mark.long
@pytest.mark.parametrize(
  'selection',
  [AS_MCTX, Gumbel(gumbel_scale=0.0), Gumbel(gumbel_scale=0.0, max_num_considered_actions=5)],
  ids=str,
)
@pytest.mark.parametrize(('batch', 'actions', 'simulations', 'spread', 'illegal'), CASES)
def test_visits_of_all_nodes_equal_mctx(batch, actions, simulations, spread, illegal, selection):
  """Nodes are numbered alike there, so whole trees can be compared."""
  arrays = synthetic.make(batch, actions, spread=spread, illegal=illegal)[2]
  options = dict(actions=actions, simulations=simulations, selection=selection, spread=spread)
  ours, theirs, decision = both(arrays, jax.random.key(3), **options)
  tree = theirs.search_tree
  np.testing.assert_array_equal(ours.visits, tree.children_visits)
  np.testing.assert_array_equal(ours.child, np.maximum(tree.children_index, 0))
  np.testing.assert_array_equal(ours.size, simulations + 1)
  q = np.asarray(ours.value_sum) / np.maximum(ours.visits, 1)
  np.testing.assert_allclose(q, -tree.children_values, atol=1e-5)
  np.testing.assert_allclose(ours.value, tree.node_values[:, 0], atol=1e-5)
  np.testing.assert_allclose(ours.raw_value, tree.raw_values, atol=1e-6)
  np.testing.assert_allclose(decision.policy, theirs.action_weights, atol=1e-5)
  if isinstance(selection, Gumbel):
    np.testing.assert_array_equal(decision.action, theirs.action)


@pytest.mark.parametrize('considered', [1, 2, 3, 7, 16])
@pytest.mark.parametrize('budget', [1, 5, 32, 100])
def test_the_schedule_of_sequential_halving(considered, budget):
  from mctx._src import seq_halving

  table = seq_halving.get_table_of_considered_visits(considered, budget)
  np.testing.assert_array_equal(halving_table(considered, budget), table)
