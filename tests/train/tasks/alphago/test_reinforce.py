"""REINFORCE: games against the past, the moves that are drawn from them, and what is learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.selfplay import SelfPlayData
from mcts.alphago import episodes
from mcts.go import recorded
from tests.mcts.go.go_players import GAME, SIZE, first_point, last_point, points
from tests.mcts.go.go_referee import Referee
from train import mesh as mesh_lib
from train import verbs
from train.errors import UserError
from train.tasks.alphago.reinforce import GoReinforce

pytestmark = pytest.mark.usefixtures('one_device')

MODEL = {'name': 'alphago_policy', 'layers': 2, 'filters': 8}


@pytest.fixture(scope='module')
def played():
  keys = jax.random.split(jax.random.key(0), 4)
  return jax.jit(lambda: episodes.play(GAME, first_point, last_point, keys))()


def by_hand(black, white):
  """The moves and the result for black of a game between two of these players."""
  referee, moves = Referee(SIZE), []
  while not referee.over:
    choose = black if referee.player == 0 else white
    moves.append(choose(points(referee), default=SIZE**2))
    referee.play(moves[-1])
  score = np.sum(referee.ownership()) - 0.5
  return moves, np.sign(score)


@pytest.mark.long
def test_the_learner_has_black_in_one_half_and_results_are_its_own(played):
  assert played.side.tolist() == [0, 0, 1, 1]
  moves, black = by_hand(min, max)
  other, white = by_hand(max, min)
  assert played.result.tolist() == [black, black, -white, -white]
  assert played.states.num_entries.tolist() == [len(moves)] * 2 + [len(other)] * 2
  record = np.asarray(played.states.record) & 15
  assert record[0, : len(moves)].tolist() == moves
  assert record[2, : len(other)].tolist() == other


@pytest.mark.long
def test_what_is_drawn_are_the_learners_moves_all_of_them_alike(played):
  drawn = jax.jit(lambda: episodes.sample(GAME, played, jax.random.key(1), 4000))()
  states = jax.jit(lambda: recorded.states(GAME, drawn))()
  chosen = jax.jit(lambda: first_point(states, None))()
  np.testing.assert_array_equal(drawn['move'], chosen)  # the opponent would choose others
  assert jax.vmap(GAME.legal)(states)[jnp.arange(4000), drawn['move']].all()
  white = np.asarray(drawn['count']) % 2
  np.testing.assert_array_equal(
    drawn['result'], np.where(white, played.result[2], played.result[0])
  )
  moves, other = by_hand(min, max)[0], by_hand(max, min)[0]
  own = [m for m in moves[::2] if m < 9], [m for m in other[1::2] if m < 9]
  total = len(own[0]) + len(own[1])
  assert abs(white.mean() - len(own[1]) / total) < 0.05
  counts = np.bincount(np.asarray(drawn['count']), minlength=19)
  turns = [i for i, m in enumerate(moves) if i % 2 == 0 and m < 9]
  turns += [i for i, m in enumerate(other) if i % 2 == 1 and m < 9]
  assert (np.abs(counts[turns] / 4000 - 1 / total) < 0.02).all()


# -------- the task --------


def mesh(devices=1):
  return mesh_lib.make_mesh(devices=jax.devices()[:devices])


def task_of(batch_size=16, **options):
  settings = {'games': 16, 'match_games': 16, 'size': SIZE, **options}
  return GoReinforce(MODEL, SelfPlayData(batch_size), **settings)


@pytest.fixture(scope='module')
def task():
  return task_of(pool_size=2, pool_every=2)


@pytest.fixture(scope='module')
def variables(task):
  return mesh_lib.unbox(task.init(jax.random.key(0)))


@pytest.mark.long
def test_the_gradient_is_the_outcome_times_that_of_the_moves_log_probability(task, variables):
  seen = jax.random.bernoulli(jax.random.key(1), 0.3, (2, SIZE, SIZE, 48))
  sensible = jnp.ones((2, 9), bool).at[:, 0].set(False)
  batch = {'inputs': seen, 'sensible': sensible, 'move': jnp.array([3, 5])}
  ones = {name: jnp.ones(2) for name in ('won', 'turns', 'mask')}
  batch |= {**ones, 'result': jnp.array([1.0, -1.0])}

  def log_p(params, row):
    logits = task.network({'params': params}, seen)[row]
    return jax.nn.log_softmax(logits[1:])[batch['move'][row] - 1]

  def loss(params):
    return task.loss({'params': params}, batch, jax.random.key(0), train=True)[0]

  params = variables['params']
  found = jax.grad(loss)(params)
  won, lost = (jax.grad(log_p)(params, row) for row in (0, 1))
  expected = jax.tree.map(lambda a, b: -(a - b) / 2, won, lost)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.long
def test_the_pool_has_the_newest_parameters_of_every_so_many_steps(task, variables):
  source, seen = task.source('train', mesh(8), 0), []
  carry = source.init(jax.random.key(0))
  for step in range(6):
    now = jax.tree.map(lambda x, step=step: x + step, variables)
    carry, batch = source.next(carry, step, now)
    seen.append((np.asarray(carry['pool']['params']['bias'])[:, 0]).tolist())
  assert batch['inputs'].shape == (16, SIZE, SIZE, 48)
  assert seen == [[0, 0], [0, 0], [0, 2], [0, 2], [4, 2], [4, 2]]


@pytest.mark.long
def test_a_batch_follows_from_the_carry_the_step_and_the_variables(task, variables):
  source = task.source('train', mesh(8), 0)
  carry = source.init(jax.random.key(0))
  carry, _ = source.next(carry, 0, variables)
  kept = jax.tree.map(lambda x: jnp.array(x, copy=True), carry['pool'])
  _, once = source.next(carry, 1, variables)
  _, again = source.next({'key': carry['key'], 'pool': kept}, 1, variables)
  _, other = source.next({'key': carry['key'], 'pool': kept}, 3, variables)
  for name, x in once.items():
    np.testing.assert_array_equal(x, again[name])
  assert (np.asarray(once['move']) != np.asarray(other['move'])).any()


def config(**task):
  return verbs.complete_config({
    'task': {'name': 'go_reinforce', 'size': SIZE, 'games': 16, 'match_games': 16, **task},
    'model': MODEL,
    'data': {'name': 'selfplay', 'batch_size': 32},
    'optimizer': {'name': 'adam', 'learning_rate': 0.01},
    'train': {'steps': 4, 'log_every': 2, 'best': 'random/share', 'best_mode': 'max'},
    'mesh': {'data': 8},
  })  # fmt: skip


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_where_an_undisturbed_one_does(tmp_path):
  settings = config(pool_size=2, pool_every=2)
  whole, part = str(tmp_path / 'whole'), str(tmp_path / 'part')
  verbs.train(settings, whole)
  first = {**settings, 'train': {**settings['train'], 'steps': 3}}
  verbs.train(first, part)
  with open(tmp_path / 'part' / 'config.json') as file:
    text = file.read().replace('"steps": 3', '"steps": 4')
  (tmp_path / 'part' / 'config.json').write_text(text)
  verbs.train(settings, part)
  a, b = (verbs.load_run(x).variables for x in (whole, part))
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)
  assert verbs.load_run(whole).step == 4


@pytest.mark.long
def test_it_begins_from_the_sl_policy_and_is_evaluated_against_it(tmp_path):
  verbs.train(config(), str(tmp_path / 'first'))
  begun = task_of(sl_policy=str(tmp_path / 'first'))
  first = verbs.load_run(str(tmp_path / 'first')).variables
  now = mesh_lib.unbox(jax.jit(begun.init)(jax.random.key(5)))  # as a run does
  for x, y in zip(jax.tree.leaves(now), jax.tree.leaves(first), strict=True):
    np.testing.assert_array_equal(x, y)
  assert set(begun.evals(mesh(8))) == {'sl_policy'}


def test_what_does_not_fit_is_refused():
  with pytest.raises(UserError, match=r'task\.games=1: must be at least 2'):
    task_of(games=1)
  with pytest.raises(UserError, match=r'task\.games=24: must be a multiple of 16'):
    task_of(games=24).source('train', mesh(8), 0)
