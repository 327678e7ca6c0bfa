"""Every game keeps the contract: random games, and the rules of the small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcts
from mcts.games import in_a_row
from tests.mcts.search.synthetic import keys_of, position, stack

GAMES = [
  ('tictactoe', {}),
  ('connect_four', {}),
  ('connect_four', {'rows': 4, 'columns': 5, 'in_a_row': 3}),
  ('go', {'size': 4}),
]


@pytest.mark.long
@pytest.mark.parametrize(('name', 'options'), GAMES)
def test_random_games_keep_the_contract(name, options):
  game = mcts.build(name, **options)
  step, legal, rollout_legal, done, value, observe, to_play = (
    jax.jit(jax.vmap(f))
    for f in (
      *(game.step, game.legal, game.rollout_legal),
      *(game.done, game.value, game.observe, game.to_play),
    )
  )
  rng = np.random.default_rng(0)
  states = stack(*[game.init()] * 16)
  shape, turn = observe(states).shape, 0
  assert shape[0] == 16 and len(shape) == 4
  while not done(states).all():
    mask, over, mover = np.asarray(legal(states)), np.asarray(done(states)), to_play(states)
    assert mask.shape == (16, game.num_actions) and mask.dtype == bool
    np.testing.assert_array_equal(mask.any(1), ~over)
    sensible = np.asarray(rollout_legal(states))[~over]
    assert sensible.any(1).all() and not (sensible & ~mask[~over]).any()
    actions = np.where(over, 0, (mask * rng.random(mask.shape)).argmax(1)).astype(np.int32)
    after = step(states, actions)
    for old, new in zip(jax.tree.leaves(states), jax.tree.leaves(after), strict=True):
      np.testing.assert_array_equal(old[over], new[over])
      assert old.dtype == new.dtype and old.shape == new.shape
    assert (to_play(after) != mover)[~over].all()
    assert observe(after).shape == shape
    states, turn = after, turn + 1
    assert turn <= game.max_length
  assert np.isin(value(states), (-1, 0, 1)).all()
  assert value(states).dtype == jnp.float32


@pytest.mark.parametrize(('name', 'options'), GAMES)
def test_positions_and_actions_are_told_apart_in_text(name, options):
  game = mcts.build(name, **options)
  names = [game.action_name(action) for action in range(game.num_actions)]
  assert len({name.lower() for name in names}) == game.num_actions
  before, after = game.init(), game.step(game.init(), jnp.int32(1))
  assert game.render(before) != game.render(after) == game.render(jax.device_get(after))
  assert not game.render(before).endswith('\n')


@pytest.mark.long
@pytest.mark.parametrize(('name', 'options'), GAMES)
def test_a_state_comes_back_from_its_node(name, options):
  game = mcts.build(name, **options)
  root = game.init()
  rng = np.random.default_rng(1)
  nodes, state = [game.pack(root)] * 12, root
  for depth in range(8):
    line = stack(*nodes)
    back = game.unpack(game.pack(state), root, line, jnp.int32(depth))
    np.testing.assert_array_equal(game.legal(back), game.legal(state))
    np.testing.assert_array_equal(game.observe(back), game.observe(state))
    mask = np.asarray(game.legal(state))
    if not mask.any():
      break
    state = game.step(state, jnp.int32(rng.choice(np.flatnonzero(mask))))
    nodes[depth] = game.pack(state)


# -------- rows of stones --------


def test_number_of_lines():
  assert len(in_a_row.all_lines(3, 3, 3)) == 8
  assert len(in_a_row.all_lines(6, 7, 4)) == 69


def test_stones_fall():
  game = mcts.ConnectFour()
  state = position(game, 3, 3, 3)
  np.testing.assert_array_equal(state.board[:, 3], [0, 0, 0, 1, -1, 1])
  assert game.to_play(state) == 1
  full = position(game, *[3] * 6)
  np.testing.assert_array_equal(game.legal(full), [1, 1, 1, 0, 1, 1, 1])


@pytest.mark.parametrize(
  'moves', [(0, 1, 0, 1, 0, 1, 0), (0, 0, 1, 1, 2, 2, 3), (0, 1, 1, 2, 2, 3, 2, 3, 3, 6, 3)]
)
def test_four_in_a_row_wins(moves):
  game = mcts.ConnectFour()
  before, after = position(game, *moves[:-1]), position(game, *moves)
  assert not game.done(before) and game.done(after)
  assert game.value(after) == -1 and not game.legal(after).any()


def test_observations_are_from_the_view_of_the_player_to_move():
  game = mcts.TicTacToe()
  planes = np.asarray(game.observe(position(game, 4)))
  assert planes[1, 1].tolist() == [False, True] and planes.sum() == 1
  planes = np.asarray(game.observe(position(game, 4, 0)))
  assert planes[1, 1].tolist() == [True, False] and planes[0, 0].tolist() == [False, True]


def test_one_key_per_game_differs():
  assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys_of(9)}) == 9
