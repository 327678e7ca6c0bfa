"""The eight symmetries of boards, planes, actions and policies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcts
from mcts import symmetry
from mcts.go import Go
from mcts.search import evaluators

ALL = range(symmetry.COUNT)


def test_boards_turn_counterclockwise_and_then_mirror():
  board = jnp.arange(16).reshape(4, 4)
  for k in ALL:
    expected = np.rot90(board, k % 4)
    expected = expected[:, ::-1] if k >= 4 else expected
    np.testing.assert_array_equal(symmetry.board(board, k), expected)
  assert len({np.asarray(symmetry.board(board, k)).tobytes() for k in ALL}) == 8


@pytest.mark.parametrize('k', ALL)
def test_inverses(k):
  planes = jnp.arange(75).reshape(5, 5, 3)
  policy = jnp.arange(26.0)
  back = symmetry.inverse(k)
  np.testing.assert_array_equal(symmetry.board(symmetry.board(planes, k), back), planes)
  np.testing.assert_array_equal(symmetry.policy(symmetry.policy(policy, k), back), policy)


@pytest.mark.long
@pytest.mark.parametrize('k', ALL)
def test_boards_policies_and_actions_agree(k):
  """The mask, the planes and the game itself, transformed: rules know no direction."""
  game = Go(4)
  step, legal = jax.jit(game.step), jax.jit(game.legal)
  here, there = game.init(), game.init()
  for action in (5, 1, 0, 16, 4, 9):
    here = step(here, jnp.int32(action))
    there = step(there, symmetry.action(jnp.int32(action), k, 4))
    np.testing.assert_array_equal(symmetry.board(game.board(here), k), game.board(there))
    np.testing.assert_array_equal(symmetry.policy(legal(here), k), legal(there))
  np.testing.assert_array_equal(symmetry.board(game.observe(here), k), game.observe(there))


def test_each_game_of_a_batch_has_its_own():
  boards = jnp.stack([jnp.arange(9).reshape(3, 3)] * 8)
  turned = jax.vmap(symmetry.board)(boards, jnp.arange(8))
  for k in ALL:
    np.testing.assert_array_equal(turned[k], symmetry.board(boards[0], k))


def test_shapes_are_checked():
  with pytest.raises(ValueError, match='must be square'):
    symmetry.board(jnp.zeros((3, 4)), 1)
  with pytest.raises(ValueError, match='a policy over 12 actions'):
    symmetry.policy(jnp.zeros(12), 1)


# -------- networks that see positions turned --------


def after(game, actions):
  state = game.init()
  for action in actions:
    state = game.step(state, action)
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (64, *x.shape)), state)


@pytest.mark.long
@pytest.mark.parametrize(
  ('name', 'actions', 'orbit'),
  [
    ('go', (1, 3, 4), {0, 2, 6, 8}),
    ('tictactoe', (1, 3, 4), {0, 2, 6, 8}),
    ('connect_four', (1, 3, 3), {0, 6}),
  ],
)
def test_a_network_that_sees_positions_turned_answers_for_them_as_they_are(name, actions, orbit):
  game = Go(3) if name == 'go' else mcts.build(name)
  states, keys = after(game, actions), jax.random.split(jax.random.key(0), 64)

  def by_stones(planes):
    """What is the same for a board however it is turned: a sum at each point, or column."""
    points = (2.0 * planes[..., 0] - planes[..., 1]).astype(jnp.float32)
    rows = points.sum(1) if game.num_actions == 7 else points.reshape(len(planes), -1)
    return jnp.pad(rows, ((0, 0), (0, game.num_actions - rows.shape[1]))), points.sum((1, 2))

  plain, turned = (
    f(game, by_stones)(states, keys) for f in (evaluators.network, evaluators.random_symmetry)
  )
  for a, b in zip(plain, turned, strict=True):
    np.testing.assert_array_equal(a, b)

  def first(planes):
    likes = jnp.broadcast_to(jnp.arange(game.num_actions) == 0, (len(planes), game.num_actions))
    return likes.astype(jnp.float32), jnp.zeros(len(planes))

  liked = evaluators.random_symmetry(game, first)(states, keys)[0].argmax(-1)
  assert set(liked.tolist()) == orbit
