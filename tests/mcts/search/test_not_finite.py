"""What an evaluator says that is not finite is no answer, wherever in the tree it is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts import search
from mcts.engines import NoAnswer, players
from mcts.game import initial_states
from mcts.games.tictactoe import TicTacToe
from mcts.match import batch, exhaustive
from mcts.search import evaluators
from mcts.search.policies import Gumbel, Puct
from mcts.search.selection import sample_action

GAME = TicTacToe()
UNIFORM = evaluators.uniform(GAME)
PUCT = Puct()


def sick(bad, where, moves=2):
  """An evaluator that says `bad` after so many moves, where the first went to the corner."""

  def evaluate(states, keys):
    logits, values = UNIFORM(states, keys)
    extra = jnp.where((states.moves == moves) & (states.board[:, 0, 0] != 0), bad, 0.0)
    if where == 'value':
      return logits, values + extra
    return (
      logits + extra[:, None] if where == 'all logits' else logits.at[:, 8].add(extra)
    ), values

  return evaluate


def searched(evaluate, selection=PUCT, states=None, **options):
  states, key = initial_states(GAME, 2) if states is None else states, jax.random.key(0)
  root, expand = evaluators.make_root(GAME, evaluate), evaluators.make_expand(GAME, evaluate)
  options = {'num_simulations': 64, **options}
  return search.puct(root(states, key), expand, key, selection=selection, **options)[0]


@pytest.mark.parametrize('selection', [Puct(), Gumbel()], ids=['puct', 'gumbel'])
@pytest.mark.parametrize(
  ('bad', 'where', 'leaves'),
  [
    (jnp.nan, 'value', 1),
    (jnp.inf, 'value', 4),
    (jnp.nan, 'all logits', 1),
    (-jnp.inf, 'all logits', 1),
    (jnp.nan, 'a logit', 4),
    (jnp.inf, 'a logit', 1),
  ],
)
def test_a_search_with_such_a_leaf_has_no_answer(selection, bad, where, leaves):
  output = searched(sick(bad, where), selection, num_parallel_leaves=leaves)
  assert output.action.tolist() == [-1, -1] and np.isnan(output.value).all()


def test_a_move_may_be_ruled_out_and_a_finished_game_needs_no_evaluation():
  assert (searched(sick(-jnp.inf, 'a logit')).action >= 0).all()
  over = initial_states(GAME, 2)
  for action in (0, 3, 1, 4, 2):
    over = jax.vmap(GAME.step)(over, jnp.full(2, action))
  output = searched(sick(jnp.nan, 'value', moves=5), states=over)
  assert output.value.tolist() == [-1, -1]


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda x, v: (x[:, :1], v), r'logits have shape \(2, 1\), must have \(2, 9\)'),
    (lambda x, v: (x[0], v), r'logits have shape \(9,\), must have \(2, 9\)'),
    (lambda x, v: (x, v[:, None]), r'values have shape \(2, 1\), must have \(2,\)'),
  ],
)
def test_answers_of_another_shape_are_not_broadcast(make, message):
  with pytest.raises(ValueError, match=message):
    searched(lambda states, keys: make(*UNIFORM(states, keys)))


# -------- players --------


def test_the_game_has_no_result_and_the_player_without_an_answer_is_told():
  ill = players.policy_player(GAME, sick(jnp.nan, 'value', moves=2))
  first = players.policy_player(GAME, UNIFORM)  # takes the first free cell, a corner
  keys = jax.random.split(jax.random.key(0), 3)
  for pair, sign in (((ill, first), -1), ((first, ill), 1)):
    results = np.asarray(jax.jit(lambda k, p=pair: batch.play_pairs(GAME, p, k, 0))(keys))
    # Whoever moves first is asked again after two moves, the other after one and three.
    moved_first = 0 if sign < 0 else 1
    assert (results[:, moved_first] == sign * np.inf).all()
    assert np.isfinite(results[:, 1 - moved_first]).all()


def test_lines_of_play_end_there():
  player = jax.jit(players.policy_player(GAME, sick(jnp.nan, 'value')))
  with pytest.raises(NoAnswer, match='the player: at move 3 its network gives NaN or infinity'):
    exhaustive.count_outcomes(GAME, player, 0)


# -------- settings at their ends --------


@pytest.mark.parametrize('selection', [Puct(), Gumbel(), Puct(c_init=0.0)], ids=str)
@pytest.mark.parametrize('simulations', [0, 1])
def test_few_simulations_at_any_temperature(selection, simulations):
  for temperature in (0.0, 1e-8, 1.0, 1e30):
    output = searched(UNIFORM, selection, num_simulations=simulations, temperature=temperature)
    assert (output.action >= 0).all() and np.isfinite(output.value).all()


def test_a_temperature_near_zero_plays_the_best():
  policy = jnp.tile(jnp.array([[0.4999, 0.5001]]), (200, 1))
  keys = jax.random.split(jax.random.key(0), 200)
  assert (sample_action(keys, policy, jnp.full(200, 1e-8)) == 1).all()
  assert 50 < int(sample_action(keys, policy, jnp.full(200, 1e30)).sum()) < 150


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: searched(UNIFORM, max_depth=0), 'max_depth 0: must be at least 1'),
    (lambda: searched(UNIFORM, capacity=0), 'capacity 0: a tree has at least 1 node'),
    (lambda: searched(UNIFORM, num_parallel_leaves=0), 'num_parallel_leaves 0: must divide'),
    (lambda: Puct(c_init=float('nan')), 'c_init nan: must be from 0 to 1e\\+06'),
    (lambda: Puct(c_base=0.0), 'c_base 0.0: must be from'),
    (lambda: Puct(dirichlet_alpha=0.0), 'dirichlet_alpha 0.0: must be from 1e-30 to 1e\\+30'),
    (lambda: Puct(forced_playouts=-1.0), 'forced_playouts -1.0: must be from 0'),
    (lambda: Gumbel(value_scale=float('inf')), 'value_scale inf: must be from 0'),
  ],
)
def test_settings_that_no_search_has_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('alpha', [1e-8, 1e30])
def test_noise_is_a_distribution_at_any_concentration(alpha):
  output = searched(UNIFORM, Puct(dirichlet_fraction=1.0, dirichlet_alpha=alpha), num_simulations=0)
  np.testing.assert_allclose(output.policy.sum(-1), 1, rtol=1e-5)
  largest = np.asarray(output.policy).max(-1)
  assert (largest > 0.99).all() if alpha < 1 else (largest < 0.2).all()
