"""Positions with known best moves, as evaluations of self-play ask for them."""

import jax
import jax.numpy as jnp
import pytest

from mcts.games import connect_four_solver as solver
from mcts.games.connect_four import ConnectFour
from mcts.games.tictactoe import TicTacToe
from tests.train.tasks.selfplay.small_selfplay import mesh_of, task_of
from train.errors import UserError
from train.tasks import matches

# Columns that were played, and those that count as best here.
LINES = ['010101 0', '00112 3', '3344 25', '0123456 0123456']


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'solved.txt'
  path.write_text('\n'.join(LINES) + '\n')
  return str(path)


def measure(file, player):
  return matches.SolvedPositions(ConnectFour(), file).measure(player)(())


@pytest.mark.parametrize(
  ('columns', 'optimal', 'of_some'),
  [((0, 3, 2, 6), 1.0, 1.0), ((0, 3, 4, 6), 0.75, 2 / 3), ((1, 2, 6, 0), 0.25, 0.0)],
)
def test_shares_of_best_columns(file, columns, optimal, of_some):
  found = measure(file, lambda variables: lambda states, keys: jnp.array(columns))
  assert found == {'optimal': optimal, 'optimal_of_some': pytest.approx(of_some)}


def test_the_player_sees_the_positions_of_the_file(tmp_path):
  """It plays by how many stones there are, and the file says that such columns are best."""
  rows = list(solver.positions(20, 0, (12, 32)))
  path = tmp_path / 'solved.txt'
  path.write_text('\n'.join(solver.line(row, [len(row) % 7]) for row in rows))

  def counting(variables):
    planes = jax.vmap(ConnectFour().observe)
    return lambda states, keys: planes(states)[..., :2].sum((1, 2, 3)).astype(int) % 7

  assert measure(str(path), counting)['optimal'] == 1


def test_a_run_opens_where_its_set_is_gone(tmp_path):
  """It is missed where it is needed: before training, and by the verb eval."""
  task = task_of(
    game='connect_four',
    replay={'window': 16 * 42},
    evaluation={'solved_positions': str(tmp_path / 'gone')},
  )
  with pytest.raises(UserError, match='No such file'):
    task.evals(mesh_of(1))


def test_what_is_no_set_for_this_game_is_named(file, tmp_path):
  with pytest.raises(UserError, match=r'for connect_four of 6 x 7, not for tictactoe'):
    matches.SolvedPositions(TicTacToe(), file)
  with pytest.raises(UserError, match=r'for connect_four of 6 x 7'):
    matches.SolvedPositions(ConnectFour(rows=4), file)
  with pytest.raises(UserError, match=r'No such file.*--output=FILE makes one'):
    matches.SolvedPositions(ConnectFour(), str(tmp_path / 'none'))
  (tmp_path / 'empty').write_text('')
  with pytest.raises(UserError, match=r'it has no positions'):
    matches.SolvedPositions(ConnectFour(), str(tmp_path / 'empty'))
  (tmp_path / 'wrong').write_text('0000000 1\n')
  with pytest.raises(UserError, match=r'column 0: must be one of 0..6 that is not full'):
    matches.SolvedPositions(ConnectFour(), str(tmp_path / 'wrong'))
