"""Trees: what is kept after a move, and trees frozen as JSON."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcts
from mcts.search import advance, evaluators, extend, search
from mcts.search.policies import Gumbel, Puct
from mcts.search.tree import Root
from tests.mcts.search import synthetic
from tests.mcts.search.synthetic import keys_of, nodes_of, position, search_of, stack

FROZEN = pathlib.Path(__file__).parent / 'search_trees.json'


def child_roots(root, action, actions):
  """The positions of a synthetic tree after `action` `[B]`, as fresh roots."""
  seeds = synthetic.follow(root.state, action)
  logits, value = synthetic.look(seeds, actions, 4.0)
  return Root(state=seeds, node=seeds, logits=logits, value=value, done=root.done)


def subtree(nodes, top):
  """The nodes below number `top`, as `nodes_of` has them, renumbered from 0."""
  kept = {top: 0}
  out = [{key: nodes[top][key] for key in ('raw', 'done')}]
  for i, node in enumerate(nodes):
    if i > top and node['parent'] in kept:
      kept[i] = len(out)
      out.append({**node, 'parent': kept[node['parent']]})
  return out


# -------- the next move's tree --------


@pytest.mark.long
def test_advance_keeps_the_subtree_and_its_numbers():
  root, expand, _ = synthetic.make(5, 4)
  tree = search(root, expand, jax.random.key(0), num_simulations=150)
  action = jnp.array([0, 1, 2, 3, 1])
  after = jax.jit(advance)(tree, action, child_roots(root, action, 4), jax.random.key(1))
  for b in range(5):
    before = nodes_of(tree, b)['nodes']
    expected = subtree(before, int(tree.child[b, 0, action[b]]))
    assert nodes_of(after, b)['nodes'] == expected
    assert after.size[b] == len(expected)
    spare = jax.tree.map(lambda x, b=b: np.asarray(x[b, int(after.size[b]) :]), after.visits)
    assert not spare.any()
    np.testing.assert_array_equal(after.nodes[b, 0], root_of(after)[b])
  edge = tree.value_sum[jnp.arange(5), 0, action] / tree.visits[jnp.arange(5), 0, action]
  np.testing.assert_allclose(after.value, -edge, atol=1e-5)


def root_of(tree):
  return np.asarray(tree.state)


@pytest.mark.long
def test_a_move_that_was_never_searched_starts_anew():
  root, expand, _ = synthetic.make(2, 30)
  tree = search(root, expand, jax.random.key(0), num_simulations=8)
  action = jnp.stack([tree.root_visits[0].argmax(), tree.root_visits[1].argmin()])
  fresh = child_roots(root, action, 30)
  after = advance(tree, action, fresh, jax.random.key(1))
  assert after.size[0] > 1 and after.size.tolist()[1] == 1
  logits = np.asarray(fresh.logits)[1]
  np.testing.assert_allclose(after.log_prior[1, 0], jax.nn.log_softmax(logits), atol=1e-6)
  assert after.raw_value[1, 0] == fresh.value[1] and after.nodes[1, 0] == fresh.node[1]
  assert not after.root_visits[1].any()


@pytest.mark.long
@pytest.mark.parametrize(
  'selection',
  [Puct(), Puct(dirichlet_fraction=0.25), Gumbel(max_num_considered_actions=4)],
  ids=str,
)
def test_a_search_goes_on_from_what_was_kept(selection):
  root, expand, _ = synthetic.make(3, 6)
  options = dict(num_simulations=60, selection=selection)
  tree = search(root, expand, jax.random.key(0), capacity=130, **options)
  action = tree.root_visits.argmax(1).astype(jnp.int32)
  kept = advance(tree, action, child_roots(root, action, 6), jax.random.key(1), selection=selection)
  after = extend(kept, expand, jax.random.key(2), **options)
  grown = after.root_visits - kept.root_visits
  assert (grown.sum(1) == 60).all() and (grown >= 0).all()
  assert (after.size == kept.size + 60).all()
  for b in range(3):
    for i, node in enumerate(nodes_of(kept, b)['nodes'][1:], 1):
      same = nodes_of(after, b)['nodes'][i]
      assert (same['parent'], same['action'], same['raw']) == (
        node['parent'],
        node['action'],
        node['raw'],
      )


@pytest.mark.long
def test_many_moves_with_one_tree_on_a_real_game():
  """A whole game of self-play; at each move positions rebuilt from the kept tree stay right."""
  game = mcts.ConnectFour(4, 4, 3)
  evaluate = evaluators.uniform(game)
  make_root, expand = evaluators.make_root(game, evaluate), evaluators.make_expand(game, evaluate)
  grow = jax.jit(functools.partial(extend, expand=expand, num_simulations=50))
  turn = jax.jit(advance)
  states = stack(position(game), position(game, 0, 1))
  tree = search(make_root(states, keys_of(2)), expand, keys_of(2), num_simulations=50, capacity=200)
  while not jax.vmap(game.done)(states).all():
    action = tree.root_visits.argmax(1).astype(jnp.int32)
    states = jax.vmap(game.step)(states, action)
    root = make_root(states, keys_of(2))
    tree = turn(tree, action, root, keys_of(2))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:, 0], y), tree.nodes, root.node)
    np.testing.assert_allclose(
      tree.log_prior[:, 0], jnp.where(root.logits > -jnp.inf, tree.log_prior[:, 0], -jnp.inf)
    )
    np.testing.assert_array_equal(tree.done[:, 0], root.done)
    tree = grow(tree, key=keys_of(2))


# -------- frozen trees --------


def frozen_cases():
  root, expand, _ = synthetic.make(2, 5, illegal=0.3)
  for name, selection in (
    ('puct', Puct()),
    ('gumbel', Gumbel(gumbel_scale=0.0, max_num_considered_actions=3)),
  ):
    tree = search(root, expand, jax.random.key(0), num_simulations=24, selection=selection)
    for game in range(2):
      yield f'{name} {game}', nodes_of(tree, game)
  game = mcts.TicTacToe()
  run = search_of(game, evaluators.uniform(game), num_simulations=40)
  yield 'tictactoe', nodes_of(run(stack(position(game, 0, 3, 1)), keys_of(1)))


@pytest.mark.long
def test_frozen_trees():
  """Renewed, with a reason in the commit, by: python -m tests.mcts.search.test_tree"""
  frozen = json.loads(FROZEN.read_text())
  for name, tree in frozen_cases():
    expected = frozen[name]
    assert len(tree['nodes']) == len(expected['nodes'])
    for node, wanted in zip(tree['nodes'], expected['nodes'], strict=True):
      assert node == pytest.approx(wanted, abs=1e-5), name


def write_frozen():
  lines = []
  for name, tree in frozen_cases():
    nodes = ',\n  '.join(json.dumps(node) for node in tree.pop('nodes'))
    lines.append(f'{json.dumps(name)}: {json.dumps(tree)[:-1]}, "nodes": [\n  {nodes}\n]}}')
  FROZEN.write_text('{\n' + ',\n'.join(lines) + '\n}\n')


if __name__ == '__main__':
  write_frozen()
