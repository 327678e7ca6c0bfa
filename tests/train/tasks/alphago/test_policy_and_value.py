"""The tasks that learn from records of Go: policies and values, on small boards."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.go.source import GoGames
from mcts import symmetry
from mcts.go import Go, recorded
from tests.data.go.test_go_games import write
from train import config as config_lib
from train import mesh as mesh_lib
from train import verbs
from train.errors import UserError
from train.step import make_eval
from train.tasks import TASKS
from train.tasks.alphago.network import load_policy
from train.tasks.alphago.policy import GoPolicy, accuracies, log_mean
from train.tasks.alphago.value import EngineSettings, GoValue, values_of

pytestmark = pytest.mark.usefixtures('one_device')

SIZE = 5
POLICY = {'name': 'alphago_policy', 'layers': 2, 'filters': 8}
ROLLOUT = {'name': 'alphago_rollout'}
VALUE = {'name': 'alphago_value', 'layers': 2, 'filters': 8}


def mesh(devices=1):
  return mesh_lib.make_mesh(devices=jax.devices()[:devices])


def rules_of_thumb(count=40):
  """Games by a rule that a board shows: each player takes the first free point of their rows."""
  games = []
  for seed in range(count):
    rng = np.random.default_rng(seed)
    start = rng.permutation([(r, c) for r in (0, 4) for c in range(5)])[:2]
    black = [(1, c) for c in range(5)]
    white = [(3, c) for c in range(5)]
    first = [tuple(map(int, x)) for x in start]
    games.append(first + [x for pair in zip(black, white, strict=True) for x in pair])
  return games


def config(path, model, task='go_policy', **changes):
  whole = {
    'task': {'name': task},
    'model': model,
    'data': {
      'name': 'go_games',
      'dataset': path,
      'size': SIZE,
      'batch_size': 16,
      'test_fraction': 0.3,
    },
    'optimizer': {'name': 'adam', 'learning_rate': 0.01},
    'train': {'steps': 2, 'best': 'test/loss'},
  }
  for key, value in changes.items():
    section, name = key.split('__')
    whole[section][name] = value
  return verbs.complete_config(whole)


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield


@pytest.fixture(scope='module')
def games(tmp_path_factory):
  return write(tmp_path_factory.mktemp('games'), rules_of_thumb())


@pytest.fixture(scope='module')
def run(games, tmp_path_factory):
  """A policy that was trained until it knows the rule of thumb."""
  workdir = str(tmp_path_factory.mktemp('policy'))
  verbs.train(config(games, POLICY, train__steps=120, data__symmetries=False), workdir)
  return workdir


# -------- policies --------


@pytest.mark.long
def test_a_policy_learns_the_rule_by_which_games_are_played(run):
  found = verbs.evaluate([run])
  # The two stones at random are half known at best; all else follows from the board.
  assert found['metrics']['test/accuracy'] > 0.75
  assert found['metrics']['test/accuracy_top5'] > found['metrics']['test/accuracy']
  assert found['games'] == {'train': 40 - found['games']['test'], 'test': found['games']['test']}
  assert found['positions'] == 12 * found['games']['test']


@pytest.mark.long
def test_the_verb_eval_says_what_the_evaluation_in_training_says(run):
  opened = verbs.load_run(run)
  inside = opened.task.evals(opened.mesh)['test'](opened.variables)
  outside = verbs.evaluate([run])['metrics']
  for name, value in inside.items():
    np.testing.assert_allclose(outside[f'test/{name}'], value, rtol=1e-5)


@pytest.mark.long
def test_probabilities_over_symmetries_are_the_mean_of_what_is_said_of_turned_boards(games):
  task = GoPolicy(POLICY, GoGames(games, size=SIZE, test_fraction=0.3))
  variables = mesh_lib.unbox(task.init(jax.random.key(0)))
  seen = jax.random.bernoulli(jax.random.key(1), 0.2, (3, SIZE, SIZE, 48))
  mean = np.asarray(np.exp(task.log_probabilities(variables, seen, symmetry.COUNT)))
  np.testing.assert_allclose(mean.sum(-1), 1, rtol=1e-5)
  for k in range(8):
    turned = jax.vmap(lambda x, k=k: symmetry.board(x, k))(seen)
    again = np.asarray(np.exp(task.log_probabilities(variables, turned, symmetry.COUNT)))
    back = jax.vmap(lambda x, k=k: symmetry.policy(x, symmetry.inverse(k)))(jnp.asarray(again))
    np.testing.assert_allclose(back, mean, atol=1e-6)
  assert np.abs(mean - np.asarray(np.exp(task.log_probabilities(variables, seen, 1)))).max() > 1e-3


def test_the_metrics_count_ranks_and_leave_padding_out(games):
  task = GoPolicy(ROLLOUT, GoGames(games, size=SIZE, test_fraction=0.3))
  variables = {'params': {'weights': jnp.arange(856_080.0)}}
  seen = jnp.zeros((4, 25, 5), jnp.int32).at[:, :, 0].set(jnp.arange(25))  # scores 0 to 24
  move, mask = jnp.array([24, 20, 19, 24]), jnp.array([1.0, 1.0, 1.0, 0.0])
  _, (_, metrics) = task.loss(
    variables, {'inputs': seen, 'move': move, 'mask': mask}, jax.random.key(0), train=True
  )
  assert [metrics[name][0] for name in ('accuracy', 'accuracy_top5')] == [1, 2]
  assert metrics['loss'][1] == 3
  expected = np.log(np.exp(np.arange(25.0)).sum()) * 3 - (24 + 20 + 19)
  np.testing.assert_allclose(metrics['loss'][0], expected, rtol=1e-6)


def test_equal_scores_are_ranked_by_lot():
  """Of seven points, the third and those from the fifth on are equally liked."""
  scores = jnp.array([[9.0, 8.0, 1.0, 7.0, 1.0, 1.0, 1.0]] * 3 + [[1.0] * 7])
  found = accuracies(scores, jnp.array([0, 3, 2, 6]))
  np.testing.assert_allclose(found['accuracy'], [1, 0, 0, 1 / 7], rtol=1e-6)
  np.testing.assert_allclose(found['accuracy_top5'], [1, 1, 2 / 4, 5 / 7], rtol=1e-6)


@pytest.mark.long
def test_a_network_is_shown_the_position_before_the_move(games):
  data = GoGames(games, size=SIZE, test_fraction=0.3, batch_size=16, symmetries=False)
  task = GoPolicy(POLICY, data)
  _, batch = task.source('train', mesh(8), 0).next((), 4, None)
  _, raw = data.train_source(0, mesh_lib.batch_sharding(mesh(8))).next((), 4)
  game = Go(SIZE, max_moves=data.entries)
  states = recorded.states(game, jax.device_get(raw))
  sign = 1 - 2 * jax.vmap(game.to_play)(states)
  view = np.asarray(jax.vmap(game.board)(states) * sign[:, None, None])
  planes = np.asarray(batch['inputs'])
  np.testing.assert_array_equal(planes[..., 0], view == 1)
  np.testing.assert_array_equal(planes[..., 1], view == -1)
  empty = view.reshape(16, -1)[np.arange(16), np.asarray(batch['move'])]
  assert (empty == 0).all()


@pytest.mark.long
def test_an_evaluator_passes_rather_than_fill_its_eyes(games):
  task = GoPolicy(POLICY, GoGames(games, size=SIZE, test_fraction=0.3))
  board = np.array([
    [0, 1, 0, 1, 0],
    [1, 1, 1, 1, 1],
    [-1, -1, -1, -1, -1],
    [-1, -1, -1, -1, -1],
    [0, -1, 0, -1, 0],
  ])  # fmt: skip
  variables = mesh_lib.unbox(task.init(jax.random.key(0)))
  states = [task.game.from_position(x) for x in (board, 0 * board)]
  states = jax.tree.map(lambda *x: jnp.stack(x), *states)
  logits, values = task.evaluator(variables)(states, jax.random.split(jax.random.key(0), 2))
  assert logits.shape == (2, 26)
  assert logits[0].argmax() == 25
  assert logits[1].argmin() == 25
  assert values.tolist() == [0, 0]


@pytest.mark.long
def test_the_linear_policy_learns_the_same_way(games, tmp_path):
  changes = {'train__steps': 60, 'optimizer__learning_rate': 0.1, 'data__symmetries': False}
  verbs.train(config(games, ROLLOUT, **changes), str(tmp_path))
  found = verbs.evaluate([str(tmp_path)])['metrics']
  assert found['test/accuracy'] > 0.4
  assert 'test/accuracy_8_symmetries' not in found
  assert 'weights' in verbs.summary(config(games, ROLLOUT))


@pytest.mark.long
def test_one_device_and_eight_measure_the_same(games):
  task = GoPolicy(POLICY, GoGames(games, size=SIZE, test_fraction=0.3, eval_batch_size=16))
  variables = mesh_lib.unbox(task.init(jax.random.key(0)))
  one, eight = (make_eval(task)(variables, task.batches(mesh(n))) for n in (1, 8))
  for name, value in one.items():
    np.testing.assert_allclose(eight[name], value, rtol=1e-5)


@pytest.mark.parametrize(
  ('task', 'model', 'text'),
  [
    ('go_policy', VALUE, "'alphago_value': sees planes and colour, not planes or patterns"),
    ('go_policy', {'name': 'lenet', 'num_classes': 2}, "'lenet': sees images, not planes"),
    ('go_value', POLICY, "'alphago_policy': sees planes, not planes and colour"),
  ],
)
def test_a_network_that_sees_something_else_is_refused(games, task, model, text):
  data = GoGames(games, SIZE, test_fraction=0.3, with_result=True)
  with pytest.raises(UserError, match=text):
    config_lib.build({'name': task}, TASKS, 'task', model=model, data=data)


# -------- values --------


@pytest.fixture(scope='module')
def values(tmp_path_factory):
  """Black wins where white is on the edge; black's stones are at the top anyhow."""
  rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp('values')
  for row, winner in ((4, 'B'), (3, 'W')):
    won = []
    for _ in range(30):
      black = rng.permutation([(r, c) for r in (0, 1) for c in range(1, 5)])[:5].tolist()
      white = [(row, int(c)) for c in rng.permutation(5)]
      won.append([x for pair in zip(black, white, strict=True) for x in pair])
    write(folder, won, f'{winner}.txt', result=f'{winner}+R')
  return f'{folder}/B.txt,{folder}/W.txt'


@pytest.mark.long
def test_a_value_is_learnt_and_its_sign_is_the_winner(values, tmp_path):
  data = {'with_result': True, 'positions': 'one', 'symmetries': False}
  settings = {f'data__{name}': value for name, value in data.items()}
  one = functools.partial(config, values, VALUE, 'go_value', train__steps=100, **settings)
  verbs.train(one(task__engine={'mixing': 0.0}), str(tmp_path))
  verbs.train(
    one(task__engine={'mixing': 0.25}), str(tmp_path)
  )  # of the search alone: may change at any time
  assert verbs.load_run(str(tmp_path)).task.engine.mixing == 0.25
  found = verbs.evaluate([str(tmp_path)])
  assert found['metrics']['test/loss'] < 0.7  # 1 for knowing nothing
  assert found['metrics']['test/winner'] > 0.8
  assert found['positions'] == found['games']['test']


def test_the_loss_is_the_squared_error_for_the_player_to_move(values):
  task = GoValue(VALUE, GoGames(values, size=SIZE, test_fraction=0.3, with_result=True))
  variables = mesh_lib.unbox(task.init(jax.random.key(0)))
  seen = jax.random.bernoulli(jax.random.key(1), 0.3, (3, SIZE, SIZE, 49))
  result, mask = jnp.array([1.0, -1.0, 1.0]), jnp.array([1.0, 1.0, 0.0])
  value = np.asarray(task.network(variables, seen))
  batch = {'inputs': seen, 'result': result, 'mask': mask}
  total, (_, metrics) = task.loss(variables, batch, jax.random.key(0), train=True)
  np.testing.assert_allclose(total, ((1 - value[0]) ** 2 + (-1 - value[1]) ** 2) / 2, rtol=1e-6)
  assert metrics['winner'][0] == (value[0] > 0) + (value[1] < 0)


def test_values_need_results(games):
  with pytest.raises(UserError, match=r'data\.with_result=False'):
    GoValue(VALUE, GoGames(games, size=SIZE, test_fraction=0.3))


# -------- all of AlphaGo --------


@pytest.mark.slow
def test_a_value_run_searches_with_the_policies_of_other_runs(run, values, games, tmp_path):
  verbs.train(config(games, ROLLOUT), str(tmp_path))
  data = GoGames(values, size=SIZE, test_fraction=0.3, with_result=True)
  engine = EngineSettings(policy=run, rollout_policy=str(tmp_path), mixing=0.0)

  def make(mixing):
    return GoValue(VALUE, data, engine=dataclasses.replace(engine, mixing=mixing))

  task = make(mixing=0.0)
  variables = mesh_lib.unbox(task.init(jax.random.key(0)))
  states = jax.tree.map(lambda x: x[None], task.game.init())
  keys = jax.random.split(jax.random.key(0), 1)
  logits, value = task.evaluator(variables)(states, keys)
  opened = verbs.load_run(run)
  expected, _ = opened.task.evaluator(opened.variables)(states, keys)
  np.testing.assert_allclose(logits, expected, rtol=1e-4)
  np.testing.assert_allclose(value, values_of(task.network, variables, states), rtol=1e-5)
  rolled = make(mixing=1.0).evaluator(variables)(states, keys)[1]
  assert abs(rolled[0]) == 1
  mixed = make(mixing=0.25).evaluator(variables)(states, keys)[1]
  np.testing.assert_allclose(mixed, 0.75 * value + 0.25 * rolled, rtol=1e-5)


@pytest.mark.long
def test_a_run_of_something_else_is_no_policy(run, values, tmp_path):
  with pytest.raises(
    UserError,
    match='a model that sees patterns of a board of size 5',
  ):
    load_policy(run, 'task.engine.rollout_policy', SIZE, 'patterns')
  with pytest.raises(UserError, match='of a board of size 9'):
    load_policy(run, 'task.engine.policy', 9, 'planes')


def test_what_is_no_number_is_never_ranked_first():
  nan = float('nan')
  scores = jnp.array([[nan, 0.0, 1.0], [0.0, nan, 1.0], [nan, nan, nan], [0.0, 0.0, 1.0]])
  chances = accuracies(scores, jnp.array([0, 2, 1, 2]))
  assert [x.tolist() for x in chances.values()] == [[0, 0, 0, 1]] * 2


def test_ranks_hold_where_float32_has_no_probabilities_left():
  """At logits of 0, -200 and -300 a softmax has 1, 0 and 0."""
  log_p = log_mean(jnp.array([[[0.0, -200.0, -300.0]]]))
  chances = accuracies(jnp.tile(log_p, (1, 3)), jnp.array([1]))
  np.testing.assert_allclose(log_p, [[0, -200, -300]])
  assert float(chances['accuracy_top5'][0]) == pytest.approx(2 / 3)  # two of three places by lot
