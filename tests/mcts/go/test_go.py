"""Go against an independent referee."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcts.go import Go
from tests.mcts.go.go_play import played, random_action
from tests.mcts.go.go_referee import Referee

few = settings(max_examples=12, derandomize=True)


# -------- the rules --------


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


# -------- mistakes --------


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 26}, 'size 26: must be from 2 to 25'),
    ({'superko': 'none'}, "superko 'none': choose from positional, situational, simple"),
    ({'max_moves': 0}, 'max_moves 0: must be from 1'),
    ({'history': 17}, 'history 17: must be from 1 to 16'),
    # Komi that float32 takes for another: a win would be a draw.
    *(
      ({'komi': x}, 'must be from -1000 to 1000, with at most 3 decimals')
      for x in (5.00000001, 1e-46, 1e40, np.nan, -np.inf)
    ),
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
