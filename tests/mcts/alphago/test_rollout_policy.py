"""AlphaGo's rollout features against a slow program, and play by their weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts.alphago import rollout_policy
from mcts.alphago.rollout_policy import AROUND, KINDS, NEAR, OFFSETS
from mcts.go import Go
from tests.mcts.alphago.test_features import chain
from tests.mcts.go.go_play import played

SIZE = 5


@functools.cache
def compiled(size):
  game = Go(size)
  return jax.jit(lambda state: rollout_policy.features(game, state))


def slow(board, player, last, size):
  """name -> of each point its feature; board: a dict from points to 1 and -1."""

  def colour(point):
    if not (0 <= point[0] < size and 0 <= point[1] < size):
      return 3
    return {None: 0, player: 1, -player: 2}[board.get(point)]

  def code(point):
    weak = point in board and len(chain(board, point, size)[1]) == 1
    return colour(point) + 4 * weak

  def add(a, b):
    return a[0] + b[0], a[1] + b[1]

  def pattern(point):
    return sum(colour(add(point, way)) * 4**i for i, way in enumerate(AROUND))

  found = {name: [] for name in KINDS}
  for point in [(r, c) for r in range(size) for c in range(size)]:
    line = [code(add(point, way)) for way in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    helps = line.count(0) >= 2 or 1 in line or 6 in line
    found['pattern'].append(pattern(point))
    found['atari'].append(sum(x * 8**i for i, x in enumerate(line)))
    found['saves'].append(int(5 in line and helps))
    place = 0
    if last is not None:
      way = point[0] - last[0], point[1] - last[1]
      place = 1 + NEAR.index(way) if way in NEAR else 0
    found['neighbour'].append(place)
    found['response'].append(1 + (place - 1) * 4**8 + pattern(last) if place else 0)
  return {name: [x + OFFSETS[name] for x in xs] for name, xs in found.items()}


def stones(board):
  return {(r, c): int(x) for (r, c), x in np.ndenumerate(board) if x}


@pytest.mark.long
def test_features_are_those_of_a_slow_program_on_random_boards():
  states, actions, facts = played(SIZE, games=4, seed=11)
  for number in range(4):
    for turn in range(0, 48, 5):
      state = jax.tree.map(lambda x, n=number, t=turn: jnp.asarray(x[n, t]), states)
      if state.num_entries != turn:
        continue
      last = int(actions[number, turn - 1]) if turn else SIZE**2
      place = divmod(last, SIZE) if last < SIZE**2 else None
      player = 1 - 2 * int(facts['to_play'][number, turn])
      expected = slow(stones(facts['board'][number, turn]), player, place, SIZE)
      found = compiled(SIZE)(state)
      for i, name in enumerate(KINDS):
        np.testing.assert_array_equal(found[:, i], expected[name], err_msg=f'{turn} {name}')


def test_each_kind_has_a_part_of_the_table_for_itself():
  edges = [*OFFSETS.values(), rollout_policy.COUNT]
  assert edges == sorted(edges)
  assert np.diff(edges).tolist() == list(KINDS.values())


# -------- play --------


def position(text):
  """A state from a picture, X black, O white, black to move."""
  rows = [x.split() for x in text.strip().splitlines()]
  board = np.array([[{'X': 1, 'O': -1}.get(x, 0) for x in row] for row in rows])
  return Go(len(board)).from_position(board)


def drawn(text, weights, count=200):
  state = position(text)
  size = round(state.chains.shape[0] ** 0.5)
  game = Go(size)
  states = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), state)
  keys = jax.random.split(jax.random.key(0), count)
  return np.asarray(jax.jit(functools.partial(rollout_policy.player(weights), game))(states, keys))


NOTHING = jnp.zeros(rollout_policy.COUNT)


@pytest.mark.long
def test_moves_are_drawn_by_the_softmax_of_the_sums_of_weights():
  board = """
    . . . .
    . O X .
    . . O .
    . . . .
  """
  weights = NOTHING.at[OFFSETS['atari'] + 2 + 8 * 1 + 64 * 0 + 512 * 0].set(3.0)  # O above, X below
  game, state = Go(4), position(board)
  found = jax.jit(lambda: rollout_policy.features(game, state))()
  score = np.asarray(rollout_policy.scores(weights, found))
  assert (score == 0).all()  # nowhere is an O above and an X below
  weights = NOTHING.at[OFFSETS['atari'] + 2 + 8 * 0 + 64 * 0 + 512 * 2].set(2.0)  # O above, O right
  score = np.asarray(
    rollout_policy.scores(weights, jax.jit(lambda: rollout_policy.features(game, state))())
  )
  assert np.flatnonzero(score).tolist() == [9]
  counts = np.bincount(drawn(board, weights, 4000), minlength=17)
  legal = counts > 0
  assert legal.sum() == 13
  assert abs(counts[9] / 4000 - np.exp(2) / (np.exp(2) + 12)) < 0.03


def test_an_own_eye_is_never_filled_and_a_pass_comes_last():
  board = """
    . X . X
    X X X X
    O O O O
    . O . O
  """
  assert set(drawn(board, NOTHING).tolist()) == {16}  # white's eyes are illegal, black's are eyes


def test_a_weight_for_saving_saves():
  board = """
    . . . .
    . O . .
    O X . .
    . O . .
  """
  weights = NOTHING.at[OFFSETS['saves'] + 1].set(30.0)
  assert set(drawn(board, weights).tolist()) == {10}
