"""What must hold of any search: batches, options, and the compiled program."""

import functools
import itertools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import mcts
from mcts import search as search_lib
from mcts.search import Expansion, extend, search
from mcts.search.policies import Gumbel, Puct
from mcts.search.tree import Root, init
from tests.mcts.search import synthetic
from tests.mcts.search.synthetic import keys_of

# -------- batches --------


@pytest.mark.long
@pytest.mark.parametrize('num_leaves', [1, 4])
@pytest.mark.parametrize(
  'selection', [Puct(ties='random', dirichlet_fraction=0.25), Gumbel()], ids=str
)
def test_a_game_alone_has_the_tree_it_has_in_company(selection, num_leaves):
  root, expand, _ = synthetic.make(6, 19, illegal=0.3)
  run = jax.jit(
    lambda root, keys: search(
      root, expand, keys, num_simulations=96, selection=selection, num_parallel_leaves=num_leaves
    )
  )
  keys = keys_of(6)
  together = run(root, keys)
  for b in (0, 3, 5):
    alone = run(jax.tree.map(lambda x, b=b: x[b : b + 1], root), keys[b : b + 1])
    jax.tree.map(lambda x, y, b=b: np.testing.assert_array_equal(x[b], y[0]), together, alone)


@pytest.mark.long
def test_one_key_is_a_key_for_each_game():
  root, expand, _ = synthetic.make(3, 5)
  one = search(root, expand, jax.random.key(7), num_simulations=8, selection=Gumbel())
  many = search(root, expand, keys_of(3, 7), num_simulations=8, selection=Gumbel())
  jax.tree.map(np.testing.assert_array_equal, one, many)


@pytest.mark.long
def test_under_shard_map_every_device_searches_its_own():
  root, expand, _ = synthetic.make(8, 9)
  run = functools.partial(
    search, num_simulations=24, selection=Puct(dirichlet_fraction=0.25, ties='random')
  )
  expected = jax.jit(lambda root, keys: run(root, expand, keys))(root, keys_of(8))
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  spec = PartitionSpec('data')
  spread = jax.jit(
    jax.shard_map(lambda r, k: run(r, expand, k), mesh=mesh, in_specs=spec, out_specs=spec)
  )
  jax.tree.map(np.testing.assert_array_equal, spread(root, keys_of(8)), expected)


# -------- options --------


def chain_is_consistent(tree):
  """Visits of a node's edge are those of its own edges and the one that made it, and the totals."""
  visits, total = np.asarray(tree.visits, np.int64), np.asarray(tree.value_sum, np.float64)
  child, raw = np.asarray(tree.child), np.asarray(tree.raw_value)
  for b, n, a in zip(*np.nonzero(child), strict=True):
    c = child[b, n, a]
    assert visits[b, n, a] == 1 + visits[b, c].sum()
    np.testing.assert_allclose(-total[b, n, a], raw[b, c] + total[b, c].sum(), atol=1e-4)


def test_statistics_add_up():
  root, expand, _ = synthetic.make(3, 7, illegal=0.2)
  tree = search(root, expand, jax.random.key(0), num_simulations=200)
  chain_is_consistent(tree)
  assert (tree.root_visits.sum(1) == 200).all()
  assert (np.asarray(tree.visits)[np.asarray(tree.log_prior) == -np.inf] == 0).all()


@pytest.mark.long
@pytest.mark.parametrize('num_leaves', [2, 3, 8])
def test_several_leaves_at_once_find_different_leaves(num_leaves):
  root, expand, _ = synthetic.make(3, 7, illegal=0.2)
  tree = search(
    root, expand, jax.random.key(0), num_simulations=24 * num_leaves, num_parallel_leaves=num_leaves
  )
  assert (tree.root_visits.sum(1) == 24 * num_leaves).all()
  assert (tree.size > 0.9 * 24 * num_leaves).all()
  visits, total = np.asarray(tree.visits, np.float64), np.asarray(tree.value_sum)
  assert (np.abs(total) <= visits + 1e-3).all()  # no virtual loss is left
  one = search(root, expand, jax.random.key(0), num_simulations=24 * num_leaves)
  share = np.asarray(tree.root_visits - one.root_visits) / (24 * num_leaves)
  assert np.abs(share).sum(1).max() < 0.5
  np.testing.assert_allclose(tree.value, one.value, atol=0.15)


@pytest.mark.long
def test_leaves_that_meet_count_the_same_node():
  """With one legal move a node, all leaves of a batch are the same."""
  root, expand, _ = synthetic.make(2, 1)
  tree = search(root, expand, jax.random.key(0), num_simulations=12, num_parallel_leaves=4)
  assert tree.size.tolist() == [4, 4] and tree.root_visits[:, 0].tolist() == [12, 12]
  raw = np.asarray(tree.raw_value)  # three visits to each end, four simulations through each batch
  expected = -(4 * raw[:, 1] - 4 * raw[:, 2] + 4 * raw[:, 3])
  np.testing.assert_allclose(tree.value_sum[:, 0, 0], expected, atol=1e-5)


@pytest.mark.long
def test_a_full_tree_goes_on_counting():
  root, expand, _ = synthetic.make(2, 5)
  tree = search(root, expand, jax.random.key(0), num_simulations=100, capacity=30)
  assert tree.size.tolist() == [30, 30] and tree.root_visits.sum(1).tolist() == [100, 100]
  small = search(root, expand, jax.random.key(0), num_simulations=29)
  large = search(root, expand, jax.random.key(0), num_simulations=29, capacity=500)
  for x, y in zip(jax.tree.leaves(small), jax.tree.leaves(large), strict=True):
    np.testing.assert_array_equal(x, y[:, :30] if y.shape[:2] == (2, 500) else y)


@pytest.mark.long
def test_max_depth():
  root, expand, _ = synthetic.make(2, 3)
  tree = search(root, expand, jax.random.key(0), num_simulations=60, max_depth=2)
  for b in range(2):
    depth = [0]
    for parent in np.asarray(tree.parent)[b, 1 : tree.size[b]]:
      depth.append(depth[parent] + 1)
    assert max(depth) == 2 and tree.root_visits[b].sum() == 60


@pytest.mark.long
def test_chunks_are_the_whole():
  root, expand, _ = synthetic.make(2, 9)
  whole = search(root, expand, jax.random.key(0), num_simulations=60)
  tree = init(root, capacity=61)
  for _ in range(3):
    tree = extend(tree, expand, jax.random.key(0), num_simulations=20)
  jax.tree.map(np.testing.assert_array_equal, tree, whole)


def test_timed_search_stops_in_time_and_searches_at_least_once(monkeypatch):
  """By a clock of which a second is gone each time that someone looks at it."""
  watch = types.SimpleNamespace(monotonic=itertools.count().__next__)
  monkeypatch.setattr('mcts.search.tree_search.time', watch)
  root, expand, _ = synthetic.make(2, 9)
  chunk = jax.jit(lambda tree: extend(tree, expand, jax.random.key(0), num_simulations=4))
  for deadline, chunks in ((-1, 1), (10.5, 9)):
    end = watch.monotonic() + deadline
    *_, tree = search_lib.timed(init(root, capacity=500), chunk, end)
    assert tree.root_visits.sum(1).tolist() == [4 * chunks] * 2


@pytest.mark.long
def test_the_line_holds_all_positions_above_a_leaf():
  """Each node keeps its depth and the sum of actions from the root: the line must tell the same."""

  def expand(leaf):
    held = jnp.arange(leaf.line['depth'].shape[1])[None, :] < leaf.length[:, None]
    length = jnp.where(held, 1, 0).sum(1)
    ordered = jnp.where(held, leaf.line['depth'] - jnp.arange(held.shape[1])[None, :] == 1, True)
    last = jnp.take_along_axis(leaf.line['sum'], jnp.maximum(leaf.length - 1, 0)[:, None], 1)[:, 0]
    same = (leaf.length == 0) | (last == leaf.parent['sum'])
    good = ordered.all(1) & same & (length == leaf.parent['depth'])
    node = {
      'depth': leaf.parent['depth'] + 1,
      'sum': leaf.parent['sum'] + leaf.action * leaf.root,
      'good': good,
    }
    value = jnp.sin(node['sum'].astype(jnp.float32))
    return Expansion(
      node, jnp.cos(node['sum'][:, None] + jnp.arange(4.0)[None, :]), value, value > 2
    )

  zero = jnp.zeros(3, jnp.int32)
  node = {'depth': zero, 'sum': zero, 'good': zero == 0}
  root = Root(jnp.arange(1, 4), node, jnp.zeros((3, 4)), jnp.zeros(3), zero > 0)
  for num_leaves in (1, 5):
    tree = search(
      root, expand, jax.random.key(0), num_simulations=100, num_parallel_leaves=num_leaves
    )
    made = np.arange(101)[None, :] < np.asarray(tree.size)[:, None]
    assert np.asarray(tree.nodes['good'])[made].all()
    assert np.asarray(tree.nodes['depth']).max() > 3


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Puct(fpu='win'), "fpu 'win': choose from loss, parent, mixed, lowest"),
    (lambda: Puct(ties='last'), "ties 'last': choose from first, random"),
    (lambda: Puct(dirichlet_fraction=2.0), 'dirichlet_fraction 2.0: must be from 0 to 1'),
    (
      lambda: Gumbel(max_num_considered_actions=0),
      'max_num_considered_actions 0: must be from 1 to inf',
    ),
    (lambda: mcts.build('chess'), "game 'chess': choose from go, tictactoe, connect_four"),
    (lambda: mcts.build('connect_four', in_a_row=9), 'in_a_row 9: must be from 1 to 7'),
  ],
)
def test_mistakes_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_mistakes_in_a_search_are_named():
  root, expand, _ = synthetic.make(2, 3)
  with pytest.raises(ValueError, match='num_parallel_leaves 3: must divide num_simulations, 10'):
    search(root, expand, jax.random.key(0), num_simulations=10, num_parallel_leaves=3)

  def wrong(leaf):
    got = expand(leaf)
    return Expansion(got.node, got.logits[:, :2], got.value, got.done)

  with pytest.raises(ValueError, match=r'expand: logits has shape \(2, 2\), must have \(2, 3\)'):
    search(root, wrong, jax.random.key(0), num_simulations=10)


# -------- the compiled program --------


@pytest.mark.long
@pytest.mark.parametrize('num_leaves', [1, 4])
@pytest.mark.parametrize(
  'selection', [Puct(), Puct(rescale_q=True, forced_playouts=2.0), Gumbel()], ids=str
)
def test_no_array_of_nodes_is_copied_in_a_loop(selection, num_leaves):
  """In every computation but the entry, there is no copy as large as one number a node."""
  B, A, N = 3, 13, 481
  root, expand, _ = synthetic.make(B, A)
  run = jax.jit(
    lambda root, key: search(
      root, expand, key, num_simulations=N - 1, selection=selection, num_parallel_leaves=num_leaves
    )
  )
  program = run.lower(root, jax.random.key(0)).compile()
  loops, entry = program.as_text().split('\nENTRY ')
  copies = re.findall(r'= \w+\[([\d,]*)\]\S* copy(?:-start)?\(', loops)
  assert copies  # of small arrays: the pattern finds what it looks for
  sizes = [np.prod([int(n) for n in shape.split(',') if n]) for shape in copies]
  assert max(sizes) < N, sizes
  assert len(re.findall(r' while\(', loops + entry)) >= 3
  tree_bytes = B * N * A * 12
  assert program.memory_analysis().temp_size_in_bytes < tree_bytes / 4


def test_bytes_a_node_at_19x19():
  B, N, A = 2, 64, 362
  root = Root((), (), jnp.zeros((B, A)), jnp.zeros(B), jnp.zeros(B, bool))
  tree = jax.eval_shape(lambda: init(root, capacity=N))
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
  assert size / (B * N) < 4400
