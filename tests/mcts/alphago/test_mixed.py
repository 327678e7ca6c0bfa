"""Leaf values that mix a network's with a rollout's outcome."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts import search
from mcts.alphago import mixed, rollout_policy
from mcts.go import Go
from mcts.search import evaluators

GAME = Go(3, komi=0.5)


def half(states):
  return 0.5 + 0 * states.komi


def alike(states):
  return jnp.zeros((states.komi.shape[0], GAME.num_actions))


def boards(*texts):
  rows = [
    [[{'X': 1, 'O': -1, '.': 0}[x] for x in row.split()] for row in text.strip().splitlines()]
    for text in texts
  ]
  states = [GAME.from_position(np.array(x), komi=0.5) for x in rows]
  return jax.tree.map(lambda *x: jnp.stack(x), *states)


BLACKS = """
  . X .
  X X X
  . X .
"""
WHITES = BLACKS.replace('X', 'O')


@pytest.mark.long
@pytest.mark.parametrize('weights', [None, jnp.zeros(rollout_policy.COUNT)])
def test_a_rollout_of_a_decided_board_says_who_has_it(weights):
  states = boards(BLACKS, WHITES)
  keys = jax.random.split(jax.random.key(0), 2)
  evaluate = mixed.evaluator(GAME, alike, half, weights, mixing=1.0)
  assert jax.jit(evaluate)(states, keys)[1].tolist() == [1, -1]


@pytest.mark.long
def test_lambda_weighs_the_two():
  states = boards(BLACKS, WHITES)
  keys = jax.random.split(jax.random.key(0), 2)
  for mixing in (0.0, 0.25, 0.5):
    value = mixed.evaluator(GAME, alike, half, None, mixing)(states, keys)[1]
    expected = (1 - mixing) * 0.5 + mixing * np.array([1, -1])
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.long
def test_the_outcome_is_of_the_player_to_move():
  state = jax.tree.map(lambda x: x[0], boards(BLACKS))
  passed = GAME.step(state, jnp.int32(9))
  states = jax.tree.map(lambda *x: jnp.stack(x), state, passed)
  keys = jax.random.split(jax.random.key(0), 2)
  assert mixed.evaluator(GAME, alike, half, None, 1.0)(states, keys)[1].tolist() == [1, -1]


@pytest.mark.long
def test_a_search_takes_it_as_its_evaluator():
  evaluate = mixed.evaluator(GAME, alike, half, None, 1.0)
  expand = evaluators.make_expand(GAME, evaluate)

  @jax.jit
  def look(states):
    root = evaluators.make_root(GAME, evaluate)(states, jax.random.key(0))
    return search.puct(root, expand, jax.random.key(1), num_simulations=16)[0].value

  black, white = look(boards(BLACKS, WHITES))
  assert black > 0.5 > -0.5 > white


def test_impossible_mixtures_are_refused():
  with pytest.raises(ValueError, match=r'mixing 1\.5: must be from 0'):
    mixed.evaluator(GAME, alike, half, None, 1.5)
