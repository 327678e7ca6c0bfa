"""The search on games that are solved."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import mcts
from mcts.search import evaluators
from mcts.search.policies import Gumbel, Puct
from tests.mcts.search.synthetic import keys_of, nodes_of, position, search_of, stack

POLICIES = [Puct(), Puct(fpu='loss'), Puct(fpu='mixed'), Gumbel(gumbel_scale=0.0)]


@functools.cache
def tools(name, **options):
  game = mcts.build(name, **options)
  return game, evaluators.uniform(game)


def has_line(board, in_a_row):
  """Whether a row of `in_a_row` equal stones is on `board`, a numpy array; without our tables."""
  rows, columns = board.shape
  for y, x in np.argwhere(board):
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
      end_y, end_x = y + dy * (in_a_row - 1), x + dx * (in_a_row - 1)
      if end_y < rows and 0 <= end_x < columns:
        line = {board[y + i * dy, x + i * dx] for i in range(in_a_row)}
        if len(line) == 1:
          return True
  return False


def solver(in_a_row):
  """board -> its exact value for the player to move, by negamax over all positions."""
  known = {}

  def best(board):
    place = board.tobytes()
    if place not in known:
      if has_line(board, in_a_row):
        known[place] = -1
      else:
        open_columns = np.flatnonzero(board[0] == 0)
        known[place] = max((-best(drop(board, c)) for c in open_columns), default=0)
    return known[place]

  return best


def drop(board, column):
  board = board.copy()
  mover = 1 if (board == 1).sum() == (board == -1).sum() else -1
  board[np.flatnonzero(board[:, column] == 0)[-1], column] = mover
  return board


@pytest.mark.long
@pytest.mark.parametrize('selection', POLICIES, ids=str)
def test_tic_tac_toe_won_drawn_and_lost_positions(selection):
  """Left: X wins at once with 2. Middle: O must stop it with 2. Right: X has two threats already.

  XX.   XX.   X.X
  OO.   .O.   .O.
  ...   ...   X.O
  """
  game, evaluate = tools('tictactoe')
  states = stack(position(game, 0, 3, 1, 4), position(game, 0, 4, 1), position(game, 0, 4, 6, 8, 2))
  tree = search_of(game, evaluate, num_simulations=300, selection=selection)(states, keys_of(3))
  decision = selection.decide(tree, keys_of(3), 0.0)
  assert decision.action[0] == 2 and decision.action[1] == 2
  assert tree.root_values[0, 2] == 1
  sure = (
    0.6 if isinstance(selection, Puct) else 0.2
  )  # halving spends visits on the second best, too
  assert tree.value[0] > sure and tree.value[2] < -sure
  assert abs(tree.root_values[1, 2]) < 0.3


def test_tic_tac_toe_is_a_draw():
  game, evaluate = tools('tictactoe')
  run = search_of(game, evaluate, num_simulations=3000, selection=Puct(fpu='loss'))
  state = game.init()
  moves = []
  while not game.done(state):
    tree = run(stack(state), keys_of(1))
    moves.append(int(tree.root_visits[0].argmax()))
    state = game.step(state, jnp.int32(moves[-1]))
  assert len(moves) == 9 and game.value(state) == 0
  first = run(stack(game.init()), keys_of(1))
  assert abs(first.value[0]) < 0.15
  assert abs(first.root_values[0, moves[0]]) < 0.2


@pytest.mark.long
@pytest.mark.parametrize(('rows', 'columns', 'row'), [(4, 4, 3), (4, 4, 4), (3, 5, 3)])
def test_small_connect_four_is_played_without_a_mistake(rows, columns, row):
  """Against an exact solver: the value of every position that the search goes through is kept."""
  game, evaluate = tools('connect_four', rows=rows, columns=columns, in_a_row=row)
  best = solver(row)
  run = search_of(game, evaluate, num_simulations=2000, selection=Puct(fpu='loss'))
  state = game.init()
  while not game.done(state):
    tree = run(stack(state), keys_of(1))
    action = int(tree.root_visits[0].argmax())
    board = np.asarray(state.board)
    assert -best(drop(board, action)) == best(board), board
    state = game.step(state, jnp.int32(action))
    np.testing.assert_array_equal(state.board, drop(board, action))
  assert int(game.value(state)) == best(np.asarray(state.board))


def test_a_finished_game_is_not_searched():
  game, evaluate = tools('tictactoe')
  states = stack(position(game, 0, 3, 1, 4, 2), position(game))
  tree = search_of(game, evaluate, num_simulations=20)(states, keys_of(2))
  assert tree.size.tolist() == [1, 21]
  assert tree.root_visits.sum(1).tolist() == [0, 20]
  assert tree.value[0] == -1


def test_finished_nodes_are_exact_and_have_no_children():
  game, evaluate = tools('tictactoe')
  states = stack(position(game, 0, 3, 1, 4))

  def biased(states, keys):  # an evaluator that errs always
    logits, values = evaluate(states, keys)
    return logits, values + 0.9

  tree = search_of(game, biased, num_simulations=500)(states, keys_of(1))
  nodes = nodes_of(tree)['nodes']
  for i, node in enumerate(nodes):
    if node['done']:
      assert node['raw'] in (-1.0, 0.0) and node['value'] == -node['raw']
      assert not any(other.get('parent') == i for other in nodes)
    else:
      assert node['raw'] == pytest.approx(0.9)
