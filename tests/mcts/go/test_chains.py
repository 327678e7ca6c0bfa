"""Chains, areas and bitboards of any board."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mcts.go import chains
from tests.mcts.go.go_referee import Referee

few = settings(max_examples=12, derandomize=True)


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
  words = chains.to_bitboard(jnp.asarray(mask))
  assert words.shape == (12,)
  np.testing.assert_array_equal(chains.from_bitboard(words, 361), mask)
