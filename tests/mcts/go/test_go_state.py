"""What a state of Go takes, and what its observations, nodes and batches promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from mcts.go import Go, superko
from tests.mcts.go.go_play import played, random_game

few = settings(max_examples=12, derandomize=True)


# -------- what a state takes --------


def size_of(tree):
  return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_a_state_and_a_node_are_small():
  large, small = Go(19), Go(9)
  assert size_of(large.init()) <= 2500 and size_of(small.init()) <= 1000
  assert size_of(large.pack(large.init())) <= 200 and size_of(small.pack(small.init())) <= 200


@few
@given(st.sampled_from([2, 9, 19, 25]), st.sampled_from([7, 162, 722, 3000]), st.integers(0, 9))
def test_the_record_packs_exactly(size, turns, seed):
  packing, random = superko.Packing(turns, size * size), np.random.default_rng(seed)
  point = random.integers(size * size + 1, size=turns)
  gone = random.integers(turns + 1, size=turns)
  low, high = packing.pack(jnp.asarray(point), jnp.asarray(gone))
  assert (low.shape, low.dtype) == ((turns,), jnp.uint16)
  assert (high.shape, high.dtype) == ((packing.num_words,), jnp.uint32)
  for ours, expected in zip(packing.unpack(low, high), (point, gone), strict=True):
    np.testing.assert_array_equal(ours, expected)


def test_keys_are_random_and_a_pass_has_none():
  for points in (4, 81, 361):
    table = superko.zobrist_keys(points).reshape(2, points + 1, 2)
    assert (table[:, -1] == 0).all()
    stones = table[:, :-1].reshape(-1, 2)
    assert len(np.unique(stones, axis=0)) == len(stones)
    bits = np.unpackbits(np.ascontiguousarray(stones).view(np.uint8), axis=1)
    assert abs(bits.mean() - 0.5) < 0.1


def test_a_position_s_hash_is_the_sum_of_its_stones_keys():
  game = Go(5)
  states, _, facts = played(5)
  states = jax.tree.map(lambda x: x[0], states)
  hashes = jax.vmap(game.position_hash)(states)
  table = superko.zobrist_keys(25).reshape(2, 26, 2)[:, :-1]
  for t in (0, 7, 30):
    board = facts['board'][0, t].reshape(-1)
    expected = table[0][board > 0].sum(0, np.uint32) + table[1][board < 0].sum(0, np.uint32)
    np.testing.assert_array_equal(hashes[t], expected)


# -------- observations --------


@pytest.mark.long
@pytest.mark.parametrize('history', [8, 2])
def test_planes_are_the_last_boards_from_the_view_of_the_player_to_move(history):
  """Silver et al. 2017: X_t, Y_t, X_{t-1}, Y_{t-1}, ..., and ones where black is to move."""
  _, _, facts = played(5, 2, history=history, max_moves=200, turns=202)
  assert facts['observe'].shape[2:] == (5, 5, 2 * history + 1)
  for g, t in np.ndindex(2, 100):
    me = 1 - 2 * facts['to_play'][g, t]
    for ago in range(history):
      board = facts['board'][g, t - ago] if t >= ago else np.zeros((5, 5))
      if facts['done'][g, t]:
        continue
      planes = facts['observe'][g, t, ..., 2 * ago : 2 * ago + 2]
      np.testing.assert_array_equal(planes[..., 0], board == me)
      np.testing.assert_array_equal(planes[..., 1], board == -me)
    assert (facts['observe'][g, t, ..., -1] == (me == 1)).all()


@pytest.mark.long
def test_planes_after_a_handicap_begin_with_it():
  game = Go(9)
  board = np.zeros((9, 9), np.int8)
  board[2, 2] = board[6, 6] = 1
  state = game.from_position(board, to_play=1, komi=0.5)
  planes = game.observe(state)
  np.testing.assert_array_equal(planes[..., 1], board == 1)
  assert planes.sum() == 2
  assert game.to_play(state) == 1 and game.score(state) == 80.5


# -------- nodes --------


@pytest.mark.long
@pytest.mark.parametrize(
  ('size', 'options'),
  [(3, {'max_moves': 60}), (4, {'suicide': True}), (7, {}), (8, {'superko': 'situational'})],
)
def test_a_state_returns_from_its_node(size, options):
  """From any root before it: the same record, mask and planes; leaves beyond the line are junk."""
  game = Go(size, **options)
  turns = options.get('max_moves', 2 * size * size) + 2
  states, _, facts = played(size, 10 if size == 3 else 2, turns=turns, **options)
  depth = 12

  def back(states, begin, length):
    at = lambda t: jax.tree.map(lambda x: x[t], states)  # noqa: E731
    nodes = jax.vmap(game.pack)(states)
    line = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, begin + 1, depth), nodes)
    hold = jnp.arange(depth) < length
    line = jax.tree.map(
      lambda x: jnp.where(hold.reshape(-1, *[1] * (x.ndim - 1)), x, x.dtype.type(3)), line
    )
    state = game.unpack(game.pack(at(begin + length)), at(begin), line, length)
    return state, game.legal(state), game.observe(state)

  back = jax.jit(jax.vmap(back, (None, 0, 0)))
  random = np.random.default_rng(size)
  begins, lengths = random.integers(turns - depth, size=60), random.integers(depth + 1, size=60)
  for g in range(len(facts['done'])):
    game_states = jax.tree.map(lambda x, g=g: x[g], states)
    unpacked, legal, planes = back(game_states, begins, lengths)
    ends = begins + lengths
    np.testing.assert_array_equal(legal, facts['legal'][g][ends])
    np.testing.assert_array_equal(planes, facts['observe'][g][ends])
    np.testing.assert_array_equal(np.sign(unpacked.chains), np.sign(game_states.chains[ends]))
    for name in ('record', 'record_high', 'num_entries', 'passes', 'komi'):
      np.testing.assert_array_equal(getattr(unpacked, name), getattr(game_states, name)[ends])


# -------- batches --------


@pytest.mark.long
def test_a_game_is_the_same_alone_in_company_and_on_any_device():
  game = Go(5)
  play = lambda keys: jax.vmap(lambda key: random_game(game, 60, key))(keys)  # noqa: E731
  keys = jax.random.split(jax.random.key(3), 16)
  whole = jax.jit(play)(keys)
  alone = jax.jit(play)(keys[5:6])
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[5], y[0]), whole, alone)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  spread = jax.shard_map(
    play, mesh=mesh, in_specs=PartitionSpec('data'), out_specs=PartitionSpec('data')
  )
  jax.tree.map(np.testing.assert_array_equal, whole, jax.jit(spread)(keys))


@pytest.mark.long
def test_all_functions_run_on_shards():
  game = Go(4)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))

  def everything(keys):
    def one(key):
      states, actions = random_game(game, 20, key)
      root, last = (jax.tree.map(lambda x, t=t: x[t], states) for t in (10, 20))
      line = jax.tree.map(lambda x: x[11:], jax.vmap(game.pack)(states))
      back = game.unpack(game.pack(last), root, line, jnp.full_like(actions[0], 10))
      start = game.from_position(game.board(root), game.to_play(root))
      replayed, legal = game.replay(game.init(komi=root.komi), actions)
      facts = [game.legal, game.observe, game.ownership, game.value, game.position_hash]
      same = (replayed.record == back.record).all() & legal.all()
      return [f(state) for f in facts for state in (back, start)], same

    return jax.vmap(one)(keys)

  keys = jax.random.split(jax.random.key(1), 8)
  spec = PartitionSpec('data')
  spread = jax.shard_map(everything, mesh=mesh, in_specs=spec, out_specs=spec)
  whole, shards = jax.jit(everything)(keys), jax.jit(spread)(keys)
  jax.tree.map(np.testing.assert_array_equal, whole, shards)
  assert whole[1].all()


@pytest.mark.long
def test_replay_tells_legal_moves_from_illegal():
  game = Go(3)
  moves = jnp.array([4, 4, 0, -1, 9, 1])
  state, legal = jax.jit(game.replay)(game.init(), moves)
  assert legal.tolist() == [True, False, True, True, True, True]
  assert game.board(state).tolist() == [[-1, -1, 0], [0, 1, 0], [0, 0, 0]]
  state, legal = game.replay(game.init(), jnp.array([0, 1, 4]), jnp.array([0, 0, 1]))
  assert legal.all()
  assert game.board(state).tolist() == [[1, 1, 0], [0, -1, 0], [0, 0, 0]]


# -------- text --------


def test_a_state_is_rendered_with_its_last_move():
  game = Go(3)
  state = game.init()
  assert '(' not in game.render(state)
  for action in (4, 2):
    state = game.step(state, jnp.int32(action))
  assert jax.device_get(state).chains[4] > 0
  assert game.render(jax.device_get(state)) == (
    '   A B C\n 3 . .(O)3\n 2 . X . 2\n 1 . . . 1\n   A B C'
  )
  passed = game.step(state, jnp.int32(9))
  assert '(' not in game.render(passed)
  assert (game.max_length, game.action_name(2)) == (18, 'C3')
