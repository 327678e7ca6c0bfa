"""Deep belief nets as a task: stages, mini-batches, any layout of devices, and what is refused."""

import contextlib
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data.images.source import ImageData
from models import boltzmann, dbn
from tests.train.stopping import StoppingSource
from train import config as config_lib
from train import mesh as mesh_lib
from train.errors import Halted, UserError
from train.loop import Loop
from train.step import init_state, make_step
from train.tasks.belief import pictures
from train.tasks.belief.batches import ImageChoice, MiniBatchOrder
from train.tasks.belief.task import Belief

GREEDY = {'steps': (1, 1, 1), 'learning_rate': 0.1, 'weight_decay': 0.01}
UPDOWN = {'steps': (1, 1), 'gibbs_steps': (1, 2), 'learning_rate': 0.1}


def task(kind=Belief, data=(), model=(), **section):
  section = {'mini_batches': 2, **section}
  section['greedy'] = {**GREEDY, **section.get('greedy', {})}
  section['updown'] = {**UPDOWN, **section.get('updown', {})}
  images = ImageData(**{'batch_size': 40, 'decode_train': 'resize(6)', **dict(data)})
  images._ops_eval = images._ops_train
  net = {'name': 'dbn', 'hidden': (12, 10), 'top': 14, **dict(model)}
  return config_lib.build(section, kind, 'task', model=net, data=images)


def mesh_of(layout=(1, 1, 1)):
  return mesh_lib.make_mesh(*layout, devices=jax.devices()[: math.prod(layout)])


def run(made, steps, layout=(1, 1, 1), parallel='jit', accumulate=1):
  """Returns the variables after each step, the initial ones first, and the metrics of each."""
  mesh, tx = mesh_of(layout), optax.sgd(1.0)
  with mesh_lib.activate(mesh):
    state, shardings = init_state(made, tx, 0, mesh)
    step = make_step(made, tx, shardings, parallel=parallel, accumulate=accumulate)
  source, seen, metrics = made.source('train', mesh, 0), [jax.device_get(state.variables)], []
  scope = mesh_lib.activate if parallel == 'jit' else contextlib.nullcontext
  for i in range(steps):
    _, batch = source.next((), i, state.variables)
    with scope(mesh):
      state, found = step(state, batch)
    seen.append(jax.device_get(state.variables))
    metrics.append({name: float(x) / float(w) for name, (x, w) in found.items()})
  return seen, metrics


def close(a, b, tolerance):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, atol=tolerance)


@pytest.fixture(scope='module')
def whole():
  """All five stages, one step each, on one device."""
  made = task()
  return made, *run(made, 5)


# -------- stages --------


def test_each_stage_moves_its_own_rbm_and_the_last_ones_move_all(whole):
  _, seen, metrics = whole
  parts = ['layer0', 'layer1', 'top']

  def moved(before, after):
    return [
      name
      for name in parts
      if any(
        (x != y).any()
        for x, y in zip(*(jax.tree.leaves(v['params'][name]) for v in (before, after)), strict=True)
      )
    ]

  changes = [moved(*pair) for pair in itertools.pairwise(seen)]
  assert changes == [['layer0'], ['layer1'], ['top'], parts, parts]
  assert [line['stage'] for line in metrics] == [1, 2, 3, 4, 5]


def test_weights_are_tied_while_a_layer_is_an_rbm_and_free_afterwards(whole):
  _, seen, _ = whole
  for number, tied in ((3, True), (4, False)):
    for layer in ('layer0', 'layer1'):
      own = seen[number]['params'][layer]
      assert np.allclose(own['generation'], own['recognition'].T, atol=1e-7) == tied


def test_a_step_of_the_first_stage_is_contrastive_divergence_by_hand(whole):
  """Two mini-batches of 40, the second from where the first left the weights, with momentum."""
  made, seen, metrics = whole
  _, batch = made.source('train', mesh_of(), 0).next((), 0, seen[0])
  state_key = jax.random.split(jax.random.key(jnp.uint32(0)))[1]
  key = jax.random.fold_in(state_key, 0)
  rbm = dbn.rbm_of(seen[0]['params'], 0)
  velocity, errors = jax.tree.map(np.zeros_like, rbm), 0.0
  for j in range(2):
    rows = slice(j, None, 2)
    v = np.asarray(batch['image'][rows], np.float32).reshape(40, -1) / 255
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, j), batch['index'][rows])
    model, _ = boltzmann.gibbs(rbm, keys, v, None, 1, sample_visible=False)
    model = np.asarray(model)
    up, down = (1 / (1 + np.exp(-(x @ rbm['kernel'] + rbm['hidden_bias']))) for x in (v, model))
    grads = {
      'kernel': (model.T @ down - v.T @ up) / 40 + 0.01 * rbm['kernel'],
      'bias': (model - v).mean(0),
      'hidden_bias': (down - up).mean(0),
    }
    velocity = {name: 0.9 * velocity[name] - 0.1 * grads[name] for name in grads}
    rbm = {name: rbm[name] + velocity[name] for name in grads}
    errors += np.square(v - model).sum() / 80
  after = dbn.rbm_of(seen[1]['params'], 0)
  for name, value in rbm.items():
    np.testing.assert_allclose(after[name], value, atol=1e-5)
  assert metrics[0]['loss'] == pytest.approx(errors, rel=1e-4)


@pytest.mark.long
def test_momentum_begins_anew_with_each_stage_and_small_if_asked():
  """With momentum 0.9 from the first step on, one of two mini-batches carries it."""
  made = task(greedy={'steps': (2, 1, 1), 'initial_momentum': 0.0, 'initial_steps': 1})
  other = task(greedy={'steps': (2, 1, 1), 'momentum': 0.0})
  (_, one, two), _ = run(made, 2)
  (_, plain, _), _ = run(other, 1 + 1)
  close(one['params'], plain['params'], 0)
  stopped, _ = run(other, 3)
  changed, _ = run(task(greedy={'steps': (2, 1, 1)}), 1)
  for found, same in ((two, stopped[2]), (changed[1], one)):
    biases = (x['params']['layer0']['generation_bias'] for x in (found, same))
    assert np.not_equal(*biases).any()


def test_more_gibbs_iterations_are_another_update(whole):
  made = task(updown={'gibbs_steps': (3, 2)})
  seen, _ = run(made, 4)
  _, reference, _ = whole
  close(seen[3]['params'], reference[3]['params'], 0)
  top, other = (x[4]['params']['top']['kernel'] for x in (seen, reference))
  assert (top != other).any()


# -------- layouts --------


@pytest.mark.long
@pytest.mark.parametrize(
  ('layout', 'parallel'), [((8, 1, 1), 'jit'), ((2, 2, 2), 'jit'), ((8, 1, 1), 'pmap')]
)
def test_eight_devices_train_as_one(whole, layout, parallel):
  _, reference, lines = whole
  seen, metrics = run(task(), 5, layout, parallel)
  close(seen[-1]['params'], reference[-1]['params'], 1e-5)
  assert [x['loss'] for x in metrics] == pytest.approx([x['loss'] for x in lines], rel=1e-4)


def test_microbatches_are_refused():
  with pytest.raises(UserError, match=r'train\.accumulate: must be 1, since each mini-batch'):
    run(task(), 1, accumulate=2)


def test_mini_batches_that_devices_cannot_share_are_refused():
  with pytest.raises(UserError, match=r'data.batch_size=36: must be divisible by the 8 parts'):
    task(data={'batch_size': 36}).source('train', mesh_of((8, 1, 1)), 0)


class Interrupted(Belief):
  """A task that is interrupted between its first stage and its second."""

  def source(self, split, mesh, seed):
    return StoppingSource(super().source(split, mesh, seed), 1)


class Poisoned(Belief):
  """A task whose weights are not numbers in the fifth step."""

  def loss(self, variables, batch, key, *, train):
    if train:
      bad = jnp.where(batch['step'][0] == 4, jnp.nan, 0.0)
      variables = {**variables, 'params': jax.tree.map(lambda x: x + bad, variables['params'])}
    return super().loss(variables, batch, key, train=train)


def train(workdir, kind=Belief):
  """Returns whether a run of five steps came to its end."""
  loop, made = Loop(steps=5, log_every=1, eval_every=3), task(kind, validation=50)
  return loop.run(made, optax.sgd(1.0), lambda step: 1.0, mesh_of(), str(workdir), seed=0)


def left(workdir):
  """Returns what a run drew, and its metrics without times."""
  drawn = {path.name: path.read_bytes() for path in (workdir / 'samples').iterdir()}
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return drawn, [{k: v for k, v in x.items() if not k.startswith('time/')} for x in lines]


@pytest.mark.long
def test_a_run_that_is_resumed_between_its_stages_is_the_same_run(tmp_path):
  assert train(tmp_path / 'a')
  assert not train(tmp_path / 'b', Interrupted)
  assert train(tmp_path / 'b')
  assert left(tmp_path / 'b') == left(tmp_path / 'a')
  drawn, lines = left(tmp_path / 'a')
  pages = ['fields1.png', 'fields2.png', 'fields3.png', 'samples.png']
  assert sorted(drawn) == [f'{step:08}-{name}' for step in (3, 5) for name in pages]
  assert {'test/error', 'val/error', 'trained/error'} <= lines[-1].keys()


@pytest.mark.long
def test_a_value_that_is_not_finite_stops_the_run(tmp_path):
  with pytest.raises(Halted, match='the state before step 5'):
    train(tmp_path, Poisoned)


# -------- what is learned from --------


def test_mini_batches_hold_each_class_alike_and_an_epoch_each_image_once():
  groups = [np.arange(0, 12), np.arange(100, 112)]
  order = MiniBatchOrder(0, groups, 4)
  steps = [order.rows(step, 8).reshape(4, 2).T for step in range(3)]  # [mini-batch, record]
  mini = np.concatenate(steps)
  assert ((mini < 50).sum(1) == 2).all()
  assert sorted(mini.ravel()) == sorted(np.concatenate(groups))
  assert (order.rows(1, 8) == MiniBatchOrder(0, groups, 4).rows(1, 8)).all()
  assert (order.rows(3, 8) != order.rows(0, 8)).any()
  one, other = (mini[mini < 50], mini[mini >= 50] - 100)
  assert (one != other).any()  # classes are shuffled apart


def test_chosen_images_are_the_same_for_every_seed_and_disjoint():
  images = ImageData(batch_size=40)
  one, again = (ImageChoice(images, mesh_of(), 100, 200) for _ in range(2))
  assert len(one.training) == 1000 and len(one.validation) == 200
  assert not np.intersect1d(one.training, one.validation).size
  assert (one.training == again.training).all()
  everything = ImageChoice(images, mesh_of(), 0, 37)
  assert len(everything.training) == 1400 and len(everything.everything) == 1437


def test_the_last_stage_learns_from_all_images():
  made = task(
    data={'batch_size': 20}, mini_batches=8, per_class=8, updown={'steps': (1, 1), 'full_steps': 9}
  )
  variables = jax.tree.map(
    jnp.ones_like, mesh_lib.unbox(jax.eval_shape(made.init, jax.random.key(0)))
  )
  source, chosen = made.source('train', mesh_of(), 0), set(made.choice(mesh_of()).training.tolist())
  seen = [set(source.next((), i, variables)[1]['index'].tolist()) for i in range(14)]
  assert all(rows <= chosen for rows in seen[:5])
  assert len(set.union(*seen[5:])) == 1437
  assert made.metrics[-1] == 'all/error'


# -------- what is learned --------


@pytest.mark.long
def test_digits_are_learned_layer_by_layer():
  made = task(
    model={'hidden': (60, 60), 'top': 120},
    data={'batch_size': 20, 'decode_train': 'resize(8)'},
    mini_batches=10,
    greedy={'steps': (60, 60, 200), 'learning_rate': 0.1, 'weight_decay': 2e-4},
    updown={'steps': (), 'gibbs_steps': (1,)},
  )
  seen, _ = run(made, 320)
  metrics, _, arrays = made.examine([seen[-1]], mesh_of())
  assert metrics['test/error'] < 0.2  # 0.9 before the last stage
  assert arrays['filters'].shape == (8, 8, 1, 60)


# -------- what is refused --------


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    ({'greedy': {'steps': (1, 1)}}, r'greedy.steps=\(1, 1\): must be 3 numbers, one for each RBM'),
    ({'greedy': {'steps': (1, -1, 1)}}, 'greedy.steps=.*: must be at least 0'),
    ({'greedy': {'momentum': 1.0}}, r'greedy.momentum=1.0: must be in \[0, 1\)'),
    ({'updown': {'learning_rate': -0.1}}, 'updown.learning_rate=-0.1: must be at least 0'),
    ({'updown': {'gibbs_steps': (0, 1)}}, r'updown.gibbs_steps=\(0, 1\): must be one number'),
    ({'updown': {'steps': (1,)}}, r'updown.steps=\(1,\): must be \(\) or 2 numbers'),
    (
      {'greedy': {'steps': (0, 0, 0)}, 'updown': {'steps': ()}},
      'no stage has any steps',
    ),
    ({'mini_batches': 0}, 'task.mini_batches=0: must be at least 1'),
    ({'per_class': 5, 'data': {'batch_size': 32}}, 'data.batch_size=32: .* multiple of 10'),
  ],
)
def test_settings_that_cannot_be_say_why(section, message):
  with pytest.raises(UserError, match=message):
    task(**section)


def test_a_network_that_is_no_belief_net_is_refused():
  with pytest.raises(UserError, match=r"model.name='lenet': task belief trains RBMs; choose dbn"):
    config_lib.build({}, Belief, 'task', model={'name': 'lenet'}, data=ImageData(batch_size=40))


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    ({'per_class': 200}, r'task.per_class=200: class \d has 1\d\d training images'),
    ({'validation': 1437}, 'task.validation=1437: task.per_class=0 leaves 1,437 of 1,437'),
    ({'per_class': 100, 'validation': 438}, 'task.validation=438: task.per_class=100 leaves 437'),
  ],
)
def test_more_images_than_there_are_are_refused(section, message):
  with pytest.raises(UserError, match=message):
    task(**section).choice(mesh_of())


def test_a_stage_without_the_one_before_is_refused():
  made = task(greedy={'steps': (0, 1, 1)})
  with pytest.raises(UserError, match="stage 'RBM 2', which begins at step 0, builds on RBM 1,"):
    run(made, 1)
  made = task(greedy={'steps': (1, 1, 0)})
  with pytest.raises(
    UserError, match=r"stage 'up-down, 1 Gibbs.*begins at step 2, builds on RBM 3"
  ):
    run(made, 3)


def test_samples_before_the_top_rbm_are_refused(tmp_path, whole):
  made, seen, _ = whole
  with pytest.raises(UserError, match=r'the top RBM is not trained yet.*begins at step 2'):
    made.sample(seen[2], str(tmp_path))
  with pytest.raises(UserError, match='--label=x: no such class; choose from 0, 1, 2'):
    made.sample(seen[3], str(tmp_path), label=['x'])
  made.sample(seen[3], str(tmp_path), label=['1,0'], samples=3, gibbs_steps=2, seed=5)
  assert [path.name for path in tmp_path.iterdir()] == ['samples-5.png']


def test_fields_and_sheets_are_pictures():
  images = np.linspace(-1, 1, 3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4, 1)
  assert pictures.fields(images).startswith(b'\x89PNG')
  coloured = np.zeros((3, 40, 40, 3), np.uint8)
  assert pictures.sheet(coloured, 2).startswith(b'\x89PNG')
