"""Go against an independent referee, and what a state, an observation and a node promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from mcts import chains, superko
from mcts.go import Go
from tests.go_referee import Referee

few = settings(max_examples=12, deadline=None, derandomize=True)


def random_action(mask, key, pass_chance=0.05):
  """A legal action; a pass with that chance, and where there is nothing else."""
  weights = jnp.where(mask, jax.random.uniform(key, mask.shape, minval=0.1), 0.0)
  chosen = jax.random.bernoulli(jax.random.fold_in(key, 1), pass_chance)
  return jnp.argmax(weights.at[-1].set(jnp.where(chosen, 2.0, 0.01)))


def random_game(game, turns, key):
  """States `[turns + 1]` and actions `[turns]` of a random game."""

  def play(state, key):
    action = random_action(game.legal(state), key)
    return game.step(state, action), (state, action)

  start = game.init(komi=7.5 + 0 * jax.random.uniform(key))  # of this device, under shard_map
  last, (states, actions) = jax.lax.scan(play, start, jax.random.split(key, turns))
  return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), states, last), actions


@functools.cache
def played(size, games=1, seed=0, turns=None, **options):
  """Random games, and what the rules say at each of their states: numpy, `[games, turns + 1]`."""
  game = Go(size, **options)
  turns = turns or 2 * size * size + 2

  def facts(state):
    names = ('legal', 'board', 'ownership', 'done', 'to_play', 'observe', 'score')
    return {name: getattr(game, name)(state) for name in names}

  def one(key):
    states, actions = random_game(game, turns, key)
    return states, actions, jax.lax.map(facts, states)

  keys = jax.random.split(jax.random.key(seed), games)
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


# -------- the rules --------


@pytest.mark.parametrize(
  ('size', 'options', 'games', 'every'),
  [
    (2, {'max_moves': 40}, 20, 1),
    (3, {'max_moves': 60}, 20, 1),
    (3, {'max_moves': 60, 'superko': 'situational'}, 20, 1),
    (3, {'max_moves': 60, 'superko': 'simple'}, 20, 1),
    (3, {'max_moves': 60, 'suicide': True}, 20, 1),
    (4, {'max_moves': 100, 'superko': 'situational', 'suicide': True}, 10, 1),
    (5, {'max_moves': 200, 'superko': 'simple', 'suicide': True}, 6, 1),
    (5, {'max_moves': 200}, 10, 1),
    (7, {}, 2, 1),
    (9, {}, 2, 2),
    (13, {}, 1, 15),
    (19, {}, 1, 40),
  ],
)
def test_random_games_agree_with_the_referee(size, options, games, every):
  turns = options.get('max_moves', 2 * size * size) + 2
  _, actions, facts = played(size, games, turns=turns, **options)
  for g in range(games):
    referee = Referee(size, **options)
    for t in range(turns + 1):
      assert facts['board'][g, t].tolist() == referee.board()
      assert facts['done'][g, t] == referee.over
      if not referee.over:
        assert facts['to_play'][g, t] == referee.player
      if t % every == 0:
        assert facts['legal'][g, t].tolist() == referee.mask()
        assert facts['ownership'][g, t].tolist() == referee.ownership()
      if t < turns:
        referee.play(int(actions[g, t]))


def test_these_games_are_a_test_of_superko():
  """In the games above, moves are forbidden that simple ko would allow."""
  _, actions, facts = played(3, 20, turns=62, max_moves=60)
  forbidden = 0
  for g in range(20):
    referee = Referee(3, 'simple', max_moves=60)
    for t in range(60):
      if not referee.over:
        forbidden += sum(referee.mask()) - facts['legal'][g, t].sum()
      referee.play(int(actions[g, t]))
  assert forbidden > 10


@few
@given(st.lists(st.integers(0, 9), max_size=60))
def test_any_sequence_of_moves_on_a_small_board(moves):
  """Hypothesis picks the moves, and shrinks them to a few where one goes wrong."""
  game, referee = Go(3, max_moves=61), Referee(3, max_moves=61)
  legal, step = _compiled_small()
  state = game.init()
  for move in moves:
    mask = legal(state).tolist()
    assert mask == referee.mask()
    if mask[move]:
      state = step(state, jnp.int32(move))
      referee.play(move)
    assert game.board(state).tolist() == referee.board()


@functools.cache
def _compiled_small():
  game = Go(3, max_moves=61)
  return jax.jit(game.legal), jax.jit(game.step)


@pytest.mark.parametrize('size', [3, 5, 9])
def test_games_from_positions_agree_with_the_referee(size):
  """Stones that were set up are captured and remembered like those played."""
  game = Go(size, max_moves=4 * size * size)
  _, _, facts = played(size, 2)
  turn = size * size // 2

  def one(board, key):
    def play(state, key):
      action = random_action(game.legal(state), key)
      return game.step(state, action), (game.legal(state), action, game.board(state))

    return jax.lax.scan(play, game.from_position(board, 1), jax.random.split(key, 60))[1]

  for g in range(2):
    board = facts['board'][g, turn]
    masks, actions, boards = jax.tree.map(np.asarray, jax.jit(one)(board, jax.random.key(g)))
    stones = {(r, c): int(board[r, c] < 0) for r, c in np.argwhere(board).tolist()}
    referee = Referee(size, max_moves=4 * size * size, stones=stones, first=1)
    for t in range(60):
      assert boards[t].tolist() == referee.board()
      assert masks[t].tolist() == referee.mask()
      referee.play(int(actions[t]))


def test_the_cap_on_moves_ends_the_game_and_it_is_scored():
  game = Go(5, max_moves=3, komi=0.5)
  state = game.init()
  for action in (12, 0, 1):
    assert not game.done(state)
    state = game.step(state, jnp.int32(action))
  assert game.done(state) and not game.legal(state).any()
  assert game.score(state) == 2 - 1 - 0.5
  assert game.value(state) == -1  # white is to move, and has lost


def test_a_finished_game_stays_as_it_is():
  game = Go(3)
  state = game.init(komi=0.0)
  for action in (4, 9, 9):
    state = game.step(state, jnp.int32(action))
  after = game.step(state, jnp.int32(0))
  jax.tree.map(np.testing.assert_array_equal, state, after)
  assert game.value(state) == -1 and game.score(state) == 9
  draw = functools.reduce(game.step, [jnp.int32(9)] * 2, game.init(komi=0.0))
  assert game.done(draw) and game.value(draw) == 0


def test_komi_is_a_number_of_the_state():
  game = Go(3, komi=6.5)
  komis = jnp.array([0.0, 0.5, 9.0, -4.0])
  scores = jax.vmap(lambda komi: game.score(game.init(komi=komi)))(komis)
  np.testing.assert_array_equal(scores, -komis)
  assert game.score(game.init()) == -6.5


def test_a_player_may_be_given_two_turns():
  game, referee = Go(3), Referee(3)
  state = game.step(game.init(), jnp.int32(4))
  state = game.give_turn(state)
  assert game.to_play(state) == 0 and state.passes == 0
  state = game.step(state, jnp.int32(0))
  assert game.board(state).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
  for action in (4, 9, 0):
    referee.play(action)
  assert game.legal(state).tolist() == referee.mask()


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
  assert (high.shape, high.dtype) == ((packing.words,), jnp.uint32)
  for ours, expected in zip(packing.unpack(low, high), (point, gone), strict=True):
    np.testing.assert_array_equal(ours, expected)


def test_keys_are_random_and_a_pass_has_none():
  for points in (4, 81, 361):
    table = superko.keys(points).reshape(2, points + 1, 2)
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
  table = superko.keys(25).reshape(2, 26, 2)[:, :-1]
  for t in (0, 7, 30):
    board = facts['board'][0, t].reshape(-1)
    expected = table[0][board > 0].sum(0, np.uint32) + table[1][board < 0].sum(0, np.uint32)
    np.testing.assert_array_equal(hashes[t], expected)


# -------- parts --------

LABEL = jax.jit(chains.label, static_argnums=1)


SPIRAL = """
X X X X X X X
. . . . . . X
X X X X X . X
X . . . X . X
X . X X X . X
X . . . . . X
X X X X X X X
"""


def read_board(text):
  return np.array(
    [[{'X': 1, 'O': -1, '.': 0}[x] for x in row.split()] for row in text.split('\n')[1:-1]]
  )


@few
@given(st.sampled_from([2, 5, 9]), st.integers(0, 2**31), st.floats(0.05, 0.95))
def test_chains_of_any_board(size, seed, density):
  random = np.random.default_rng(seed)
  board = np.where(random.random((size, size)) < density, random.choice([1, -1], (size, size)), 0)
  check_chains(board)


def test_chains_and_areas_of_a_spiral():
  """A long way round for whatever travels from neighbour to neighbour."""
  board = read_board(SPIRAL)
  check_chains(board)
  check_chains(-board)
  board[1, 0] = -1
  black, white = chains.areas(LABEL(jnp.asarray(board.ravel()), 7), 7)
  np.testing.assert_array_equal(black.reshape(7, 7), board == 1)
  np.testing.assert_array_equal(white.reshape(7, 7), board == -1)


def check_chains(board):
  size = len(board)
  names = np.asarray(LABEL(jnp.asarray(board.ravel()), size)).reshape(size, size)
  np.testing.assert_array_equal(np.sign(names), board)
  stones = {(r, c): int(board[r, c] < 0) for r, c in np.argwhere(board).tolist()}
  referee = Referee(size, stones=stones)
  for point in stones:
    chain, _ = referee.region(stones, point)
    same = {(r, c) for r, c in np.argwhere(names == names[point]).tolist()}
    assert same == chain and divmod(abs(int(names[point])) - 1, size) in chain


def test_bitboards_return():
  mask = np.random.default_rng(0).random(361) < 0.5
  words = chains.bitboard(jnp.asarray(mask))
  assert words.shape == (12,)
  np.testing.assert_array_equal(chains.from_bitboard(words, 361), mask)


# -------- observations --------


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
    for name in ('record', 'record_high', 'count', 'passes', 'komi'):
      np.testing.assert_array_equal(getattr(unpacked, name), getattr(game_states, name)[ends])


# -------- batches --------


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


def test_replay_tells_legal_moves_from_illegal():
  game = Go(3)
  moves = jnp.array([4, 4, 0, -1, 9, 1])
  state, legal = jax.jit(game.replay)(game.init(), moves)
  assert legal.tolist() == [True, False, True, True, True, True]
  assert game.board(state).tolist() == [[-1, -1, 0], [0, 1, 0], [0, 0, 0]]
  state, legal = game.replay(game.init(), jnp.array([0, 1, 4]), jnp.array([0, 0, 1]))
  assert legal.all()
  assert game.board(state).tolist() == [[1, 1, 0], [0, -1, 0], [0, 0, 0]]


# -------- mistakes --------


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 26}, 'size 26: must be from 2 to 25'),
    ({'superko': 'none'}, "superko 'none': choose from positional, situational, simple"),
    ({'max_moves': 0}, 'max_moves 0: must be from 1'),
    ({'history': 17}, 'history 17: must be from 1 to 16'),
  ],
)
def test_options_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    Go(**options)


def test_positions_are_checked():
  game = Go(3, max_moves=5)
  with pytest.raises(ValueError, match='must be 3 x 3'):
    game.from_position(np.zeros((4, 4)))
  with pytest.raises(ValueError, match='row 0, column 0 is in a chain without liberty'):
    game.from_position(np.array([[1, -1, 0], [-1, 0, 0], [0, 0, 0]]))
  with pytest.raises(ValueError, match='6 stones set up: must be fewer than max_moves, 5'):
    game.from_position(np.array([[1, 1, 1], [-1, -1, -1], [0, 0, 0]]))
