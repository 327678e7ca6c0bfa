"""Connect Four solved: against the plain recursion, and by the rules that the games here play."""

import functools
import random

import jax
import numpy as np
import pytest

from mcts.games import connect_four_solver as solver
from mcts.games.connect_four import ConnectFour


@functools.cache
def plain_value(position):
  """Without bounds, order or threats: 1, 0 or -1 for the player to move."""
  if solver.won(position):
    return -1
  free = [c for c in range(solver.COLUMNS) if solver.FILES[c] & ~position[1]]
  return max((-plain_value(solver.play(position, c)) for c in free), default=0)


@pytest.mark.parametrize('seed', range(4))
def test_values_and_best_columns_are_those_of_the_plain_recursion(seed):
  for columns in solver.positions(10, seed, (32, 37)):
    position, found = solver.place(columns), solver.Solver()
    free = [c for c in range(solver.COLUMNS) if solver.FILES[c] & ~position[1]]
    values = {c: -plain_value(solver.play(position, c)) for c in free}
    assert found.value(position) == max(values.values())
    assert found.best(position) == [c for c in free if values[c] == max(values.values())]


def test_a_position_and_its_mirror_image_are_alike():
  for columns in solver.positions(5, 7, (24, 28)):
    mirrored = [solver.COLUMNS - 1 - column for column in columns]
    best = solver.Solver().best(solver.place(columns))
    other = solver.Solver().best(solver.place(mirrored))
    assert sorted(solver.COLUMNS - 1 - column for column in other) == best


@pytest.mark.parametrize('columns', ['010101', '162636', '001122'])
def test_what_wins_at_once_is_a_win(columns):
  position = solver.place(map(int, columns))
  assert any(solver.won(solver.play(position, column)) for column in range(solver.COLUMNS))
  assert solver.Solver().value(position) == 1


def test_the_rules_are_those_of_the_game():
  game, rng = ConnectFour(), random.Random(0)
  step, legal, done = (jax.jit(f) for f in (game.step, game.legal, game.done))
  for _ in range(5):
    state, position = game.init(), (0, 0)
    while not bool(done(state)):
      free = np.flatnonzero(np.asarray(legal(state))).tolist()
      assert free == [c for c in range(solver.COLUMNS) if solver.FILES[c] & ~position[1]]
      column = rng.choice(free)
      state, position = step(state, column), solver.play(position, column)
    assert solver.won(position) == (float(game.value(state)) == -1)
    assert solver.Solver().best(position) == []


def test_what_cannot_be_played_is_named():
  for columns, message in (([0] * 7, 'column 0'), ([7], 'column 7'), ([0, 1] * 4, 'is over')):
    with pytest.raises(ValueError, match=message):
      solver.place(columns)


def test_a_set_is_read_as_it_was_written(tmp_path, monkeypatch):
  file = tmp_path / 'set.txt'
  monkeypatch.setattr(solver.positions, '__defaults__', (0, (34, 38)))
  monkeypatch.setattr('sys.argv', ['solver', '--positions=3', f'--output={file}'])
  solver.main()
  found = solver.read(file.read_text())
  assert [played for played, _ in found] == [*solver.positions(3)]
  assert all(best == solver.Solver().best(solver.place(played)) for played, best in found)
