"""Selection policies, against their formulas by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts.search import gumbel, puct, search
from mcts.search.policies import Gumbel, Puct
from mcts.search.selection import Edges, mixed_value, root_edges
from mcts.search.tree import Root, init
from tests.mcts.search import synthetic
from tests.mcts.search.synthetic import keys_of


def one_node(prior, visits, total, raw=0.0):
  prior, visits, total = (np.float32([x]) for x in (prior, visits, total))
  count = 1 + visits.sum(1)
  with np.errstate(divide='ignore'):
    log_prior = np.log(prior)
  value = (raw + total.sum(1)) / count
  return Edges(*map(jnp.asarray, (log_prior, visits, total, np.float32([raw]), count, value)))


NODE = one_node([0.5, 0.3, 0.2, 0.0], [6, 2, 0, 0], [3.0, -1.0, 0, 0], raw=0.1)


@pytest.mark.parametrize(
  ('selection', 'first'),
  [
    (Puct(fpu='loss'), -1.0),
    (Puct(fpu='parent'), 2.1 / 9),
    (Puct(fpu='parent', fpu_reduction=0.25), 2.1 / 9 - 0.25),
    (Puct(fpu='lowest'), -0.5),
    (Puct(fpu='mixed'), (0.1 + 8 * (0.5 * 0.5 - 0.3 * 0.5) / 0.8) / 9),
  ],
  ids=str,
)
def test_puct(selection, first):
  c = 1.25 + np.log((9 + 19652 + 1) / 19652)
  u = c * np.sqrt(9) * np.array([0.5 / 7, 0.3 / 3, 0.2])
  score = np.array([0.5, -0.5, first]) + u
  np.testing.assert_allclose(selection.score(NODE)[0, :3], score, rtol=1e-5)
  assert selection.score(NODE)[0, 3] == -np.inf


def test_rescaled_puct_maps_q_to_unit_interval():
  selection = Puct(fpu='lowest', rescale_q=True, c_init=0.0, c_base=1e9)
  np.testing.assert_allclose(selection.score(NODE)[0, :3], [1, 0, 0], atol=1e-5)


def test_mixed_value():
  expected = (0.1 + 8 * (0.5 * 0.5 - 0.3 * 0.5) / 0.8) / 9
  np.testing.assert_allclose(mixed_value(NODE, jnp.exp(NODE.log_prior)), [expected], rtol=1e-5)


def test_gumbel_chooses_below_the_root_so_that_visits_follow_the_improved_policy():
  selection = Gumbel(rescale_q=False)
  q = np.array([0.5, -0.5, (0.1 + 8 * 0.1 / 0.8) / 9])
  logits = np.log([0.5, 0.3, 0.2]) + (50 + 6) * 0.1 * q
  policy = np.exp(logits) / np.exp(logits).sum()
  expected = policy - np.array([6, 2, 0]) / 9
  np.testing.assert_allclose(selection.score(NODE)[0, :3], expected, rtol=1e-4)


# -------- noise at the root --------


def bare_root(batch, actions, illegal):
  legal = np.arange(actions)[None, :] >= illegal
  logits = jnp.where(np.broadcast_to(legal, (batch, actions)), 0.0, -jnp.inf)
  return Root((), (), logits, jnp.zeros(batch), jnp.zeros(batch, bool))


@pytest.mark.long
@pytest.mark.parametrize(('illegal', 'alpha'), [(20, None), (0, 0.3), (361, None)])
def test_dirichlet_noise_is_of_legal_actions_only(illegal, alpha):
  tree = init(bare_root(2000, 362, illegal), capacity=1)
  noisy = Puct(dirichlet_fraction=0.25, dirichlet_alpha=alpha).prepare(tree, keys_of(2000))
  prior = np.exp(np.asarray(noisy.log_prior[:, 0], np.float64))
  legal = 362 - illegal
  assert (prior[:, :illegal] == 0).all()
  np.testing.assert_allclose(prior.sum(1), 1, atol=1e-5)
  noise = (prior[:, illegal:] - 0.75 / legal) / 0.25
  concentration = (10.83 / legal if alpha is None else alpha) * legal
  variance = (1 / legal) * (1 - 1 / legal) / (concentration + 1)
  np.testing.assert_allclose(noise.mean(), 1 / legal, rtol=1e-3)
  np.testing.assert_allclose((noise - 1 / legal).var(), variance, rtol=0.1, atol=1e-9)


def test_random_ties():
  root = bare_root(64, 9, 0)
  tree = init(root, capacity=1)
  selection = Puct(ties='random')
  tree = selection.prepare(tree, keys_of(64))
  first = selection.score_root(root_edges(tree), tree.root_visits, tree.noise, 1).argmax(1)
  assert len(set(first.tolist())) == 9
  first = Puct().score_root(root_edges(tree), tree.root_visits, tree.noise, 1).argmax(1)
  assert set(first.tolist()) == {0}


# -------- forced playouts --------


@pytest.mark.long
def test_forced_playouts_and_their_pruning():
  """KataGo's 3.2: noise makes bad moves be tried, and what they got is not learnt."""
  root, expand, _ = synthetic.make(8, 12, spread=2.0)
  selection = Puct(forced_playouts=2.0, dirichlet_fraction=0.25, dirichlet_alpha=0.5)
  tree = search(root, expand, jax.random.key(0), num_simulations=400, selection=selection)
  visits, prior = np.asarray(tree.root_visits), np.exp(tree.log_prior[:, 0])
  tried = visits > 0
  assert (visits + 1 >= np.floor(np.sqrt(2 * prior * 400)))[tried].all()
  decision = selection.decide(tree, keys_of(8))
  plain = Puct().decide(tree, keys_of(8))
  policy = np.asarray(decision.policy)
  np.testing.assert_allclose(policy.sum(1), 1, atol=1e-5)
  best = visits.argmax(1)
  assert (policy.argmax(1) == best).all()
  assert (policy[np.arange(8), best] >= plain.policy[np.arange(8), best]).all()
  assert (policy == 0).sum() > (visits == 0).sum()


# -------- decisions --------


@pytest.mark.long
def test_temperature():
  root, expand, _ = synthetic.make(1, 6)
  tree = search(root, expand, jax.random.key(0), num_simulations=100)
  many = jax.tree.map(lambda x: jnp.repeat(x, 4000, 0), tree)
  share = np.asarray(tree.root_visits[0]) / 100
  for temperature in (1.0, 0.5):
    drawn = Puct().decide(many, keys_of(4000), temperature).action
    expected = share ** (1 / temperature) / (share ** (1 / temperature)).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / 4000, expected, atol=0.03)
  assert (Puct().decide(many, keys_of(4000), 0.0).action == share.argmax()).all()
  each = Puct().decide(many, keys_of(4000), jnp.where(jnp.arange(4000) < 2000, 0.0, 1.0)).action
  assert len(set(each[:2000].tolist())) == 1 < len(set(each[2000:].tolist()))


@pytest.mark.long
def test_gumbel_without_noise_gives_each_of_the_considered_its_share():
  root, expand, _ = synthetic.make(4, 20, illegal=0.2)
  selection = Gumbel(gumbel_scale=0.0, max_num_considered_actions=4)
  decision, tree = gumbel(root, expand, jax.random.key(0), num_simulations=32, selection=selection)
  visits = np.asarray(tree.root_visits)
  assert (np.sort(visits, 1)[:, -4:] == [4, 4, 12, 12]).all() and (visits > 0).sum() == 16
  assert (np.take_along_axis(visits, np.asarray(decision.action)[:, None], 1) == 12).all()


@pytest.mark.long
def test_gumbel_noise_samples_the_first_action_from_the_prior():
  """The Gumbel-max trick: with one simulation the action is a sample of the prior."""
  root, expand, _ = synthetic.make(1, 5)
  many = jax.tree.map(lambda x: jnp.repeat(x, 4000, 0), root)
  decision, _ = gumbel(many, expand, jax.random.key(0), num_simulations=1)
  expected = np.asarray(jax.nn.softmax(root.logits[0]))
  np.testing.assert_allclose(np.bincount(decision.action, minlength=5) / 4000, expected, atol=0.03)


@pytest.mark.long
def test_policy_functions_are_reproducible_and_give_distributions():
  root, expand, _ = synthetic.make(3, 9, illegal=0.4)
  for function in (puct, gumbel):
    one, _ = function(root, expand, jax.random.key(5), num_simulations=16)
    two, _ = function(root, expand, jax.random.key(5), num_simulations=16)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    np.testing.assert_allclose(one.policy.sum(1), 1, atol=1e-5)
    assert (np.asarray(one.policy)[np.isneginf(root.logits)] == 0).all()
    assert np.isfinite(np.asarray(root.logits)[np.arange(3), np.asarray(one.action)]).all()


@pytest.mark.long
def test_gumbels_value_is_that_of_the_policy_to_be_learned():
  root, expand, _ = synthetic.make(4, 20, illegal=0.2)
  options = dict(num_simulations=16, selection=Gumbel(max_num_considered_actions=8))
  decision, tree = gumbel(root, expand, jax.random.key(0), **options)
  edges = root_edges(tree)
  first = mixed_value(edges, jnp.exp(edges.log_prior))[:, None]
  q = np.where(edges.visits > 0, edges.value_sum / np.maximum(edges.visits, 1), first)
  np.testing.assert_allclose(decision.value, (decision.policy * q).sum(1), rtol=1e-5)
  assert (decision.value > tree.value).all()  # which is of all moves that were tried
  before = Gumbel().decide(init(root, capacity=1), keys_of(4))
  np.testing.assert_allclose(before.value, root.value, rtol=1e-6)
