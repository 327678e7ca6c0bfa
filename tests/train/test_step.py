"""The compiled step: what it computes, on any layout of devices, and what it leaves alone."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.toy import Toy
from train import mesh as mesh_lib
from train.errors import UserError
from train.step import init_state, make_eval, make_step, warmed_up

LAYOUTS = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]


def run(layout=(1, 1, 1), steps=3, tx=None, task=None, parallel='jit', **options):
  """The state and each step's metrics after `steps` steps on the first devices."""
  task, tx = task or Toy(), tx or optax.sgd(0.1, momentum=0.9)
  mesh = mesh_lib.make_mesh(*layout, devices=jax.devices()[: np.prod(layout)])
  scope = mesh_lib.activate(mesh) if parallel == 'jit' else contextlib.nullcontext()
  with scope:
    state, shardings = init_state(task, tx, 0, mesh, ema='ema_decay' in options)
    step = make_step(task, tx, shardings, parallel=parallel, **options)
    source, history = task.source('train', mesh, 0), []
    for i in range(steps):
      _, batch = source.next((), i, None)
      state, metrics = step(state, batch)
      history.append({name: float(s) / float(w) for name, (s, w) in metrics.items()})
  return state, history


def close(a, b, tolerance=2e-6):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=tolerance)


@pytest.fixture(scope='module')
def single():
  return run()


@pytest.mark.long
@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_every_mesh_computes_what_one_device_does(single, layout):
  state, history = run(layout)
  close((state.params, state.extra), (single[0].params, single[0].extra))
  close(history, single[1], 1e-5)


def test_pmap_computes_what_jit_does(single):
  state, history = run((8, 1, 1), parallel='pmap')
  close((state.params, state.extra), (single[0].params, single[0].extra))
  close(history, single[1], 1e-5)


def test_the_state_is_updated_in_place():
  """No array of it is copied, averaged weights and momentum included."""
  task, tx, mesh = (
    Toy(),
    optax.sgd(0.1, momentum=0.9),
    mesh_lib.make_mesh(devices=jax.devices()[:1]),
  )
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh, ema=True)
    step = make_step(task, tx, shardings, ema_decay=0.9)
    _, batch = task.source('train', mesh, 0).next((), 0, None)
    program = step.lower(state, batch).compile().as_text()
  assert 'state_opt_state' in program
  assert re.findall(r'copy\(%?state_\w+', program) == []


def test_pmap_refuses_a_mesh_that_shards_parameters():
  with pytest.raises(UserError, match=r'fsdp and mesh\.tensor must be 1'):
    run((1, 8, 1), parallel='pmap')


def test_unknown_parallel_names_the_choices():
  with pytest.raises(UserError, match=r"'threads'.*jit, pmap"):
    run(parallel='threads')


@pytest.mark.parametrize('layout', [(1, 1, 1), (8, 1, 1)], ids=str)
def test_accumulated_microbatches_equal_the_whole_batch(single, layout):
  state, history = run(layout, accumulate=4)
  close(state.params, single[0].params)
  for ours, whole in zip(history, single[1], strict=True):
    assert ours['loss'] == pytest.approx(whole['loss'], abs=1e-5)


class Unequal(Toy):
  """The toy with examples that weigh 0 to 30, so that no part of a batch weighs as another."""

  def loss(self, variables, batch, key, *, train):
    _, (extra, metrics) = super().loss(variables, batch, key, train=train)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['index'])
    logits, _ = self.network.apply(variables, batch['image'], train=False, mutable=['batch_stats'])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
    weights = jax.vmap(lambda key: 30 * jax.random.uniform(key) ** 8)(keys)
    total, weight = jnp.sum(losses * weights), weights.sum()
    return total / weight, (extra, {**metrics, 'loss': (total, weight)})


@pytest.mark.parametrize(
  ('layout', 'options'),
  [
    ((1, 1, 1), {'accumulate': 4}),
    ((1, 1, 1), {'accumulate': 32}),
    ((8, 1, 1), {'accumulate': 2}),
    ((8, 1, 1), {'parallel': 'pmap'}),
    ((4, 1, 1), {'parallel': 'pmap', 'accumulate': 4}),
  ],
  ids=str,
)
def test_examples_of_unequal_weight_count_the_same_however_a_batch_is_cut(layout, options):
  whole, expected = run(task=Unequal(), steps=2)
  state, history = run(layout, task=Unequal(), steps=2, **options)
  close(state.params, whole.params)
  for ours, one in zip(history, expected, strict=True):
    assert ours['loss'] == pytest.approx(one['loss'], rel=1e-5)
    assert ours['grad_norm'] == pytest.approx(one['grad_norm'], rel=1e-4)


def test_fsdp_stores_a_part_of_each_parameter_and_of_its_momentum():
  state, _ = run((1, 8, 1), steps=1)
  kernel = state.params['Conv_0']['kernel']
  momentum = state.opt_state[0].trace['Conv_0']['kernel']
  assert kernel.shape == (3, 3, 3, 8)
  assert {x.data.shape for x in kernel.addressable_shards} == {(3, 3, 3, 1)}
  assert momentum.sharding == kernel.sharding


def test_activation_constraints_reach_the_compiler():
  task, tx = Toy(), optax.sgd(0.1)
  mesh = mesh_lib.make_mesh(2, 2, 2)
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    _, batch = task.source('train', mesh, 0).next((), 0, None)
    text = make_step(task, tx, shardings).lower(state, batch).as_text()
  assert 'sharding_constraint' in text.lower() or '@Sharding' in text


def test_ema_follows_its_recurrence_from_a_small_decay_on():
  first, _ = run(steps=0, ema_decay=0.9)
  expected = first.params
  for step, decay in enumerate((1 / 10, 2 / 11, 3 / 12)):
    state, _ = run(steps=step + 1, ema_decay=0.9)
    expected = jax.tree.map(
      lambda m, p, decay=decay: decay * m + (1 - decay) * p, expected, state.params
    )
    close(state.eval_variables['params'], expected, 1e-6)
  assert [float(warmed_up(0.9, jnp.int32(step))) for step in (80, 81, 10**6)] == pytest.approx(
    [0.9, 0.9, 0.9]
  )
  close(state.eval_variables['batch_stats'], state.extra['batch_stats'], 0)


@pytest.mark.parametrize('parallel', ['jit', 'pmap'])
def test_a_step_that_is_not_finite_changes_nothing_and_halts_for_good(parallel):
  layout = (8, 1, 1)
  good, _ = run(layout, steps=2, parallel=parallel)
  halted, history = run(layout, steps=4, task=Toy(poison=2), parallel=parallel)
  assert int(halted.step) == ~2
  assert np.isnan(history[2]['loss'])
  assert np.isfinite(history[3]['loss'])
  close(halted.params, good.params, 0)
  close(halted.opt_state, good.opt_state, 0)


@pytest.mark.long
def test_dropout_differs_between_steps_and_not_between_runs():
  task = Toy(dropout=0.5)
  (a, _), (b, _) = run(task=task), run(task=task)
  close(a.params, b.params, 0)
  frozen = optax.sgd(0.0)
  _, history = run(task=task, tx=frozen, steps=2)
  assert history[0]['loss'] != history[1]['loss']


def test_the_state_is_donated_whole():
  task, tx = Toy(), optax.sgd(0.1, momentum=0.9)
  mesh = mesh_lib.make_mesh(1, devices=jax.devices()[:1])
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh, ema=True)
    _, batch = task.source('train', mesh, 0).next((), 0, None)
    compiled = make_step(task, tx, shardings, ema_decay=0.9).lower(state, batch).compile()
  bytes_of = sum(x.nbytes for x in jax.tree.leaves(state) if x.dtype != jnp.int32)
  assert compiled.memory_analysis().alias_size_in_bytes >= bytes_of - 64


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'data': 3}, 'product must be the number of devices, 8'),
    ({'data': -1, 'fsdp': -1}, 'only one axis'),
    ({'tensor': 0}, 'mesh.tensor=0'),
    ({'data': 1, 'context': 3}, 'context=3: the product must be the number of devices, 8'),
  ],
)
def test_impossible_meshes_say_why(sizes, message):
  with pytest.raises(UserError, match=message):
    mesh_lib.make_mesh(**sizes)


@pytest.mark.parametrize(('batch', 'accumulate'), [(12, 1), (8, 2), (0, 1)])
def test_a_batch_that_does_not_divide_says_by_what_it_must(batch, accumulate):
  with pytest.raises(UserError, match=f'data.batch_size={batch}: must be a positive multiple of'):
    mesh_lib.check_batch(batch, mesh_lib.make_mesh(), accumulate)


def test_devices_that_cannot_share_a_text_say_how_many_can():
  mesh = mesh_lib.make_mesh(2, context=4)
  mesh_lib.check_context(16, mesh)
  with pytest.raises(UserError, match=r'mesh\.context=4: must divide data\.block_size=18; of 8'):
    mesh_lib.check_context(18, mesh)
  with pytest.raises(UserError, match=r'mesh\.context=4: is for texts'):
    mesh_lib.check_context(0, mesh)


class Counting:
  """A task whose evaluation counts the numbers that are its batches, and how many are right."""

  def loss(self, variables, batch, key, *, train):
    return 0.0, ({}, {'error': (jnp.where(batch > 1, batch, 0), batch)})


def test_an_evaluation_counts_beyond_the_integers_of_float32():
  batches = [jnp.float32(2**24), *[jnp.float32(1)] * 8]
  found = make_eval(Counting())({}, batches)
  assert found['error'] == 2**24 / (2**24 + 8) < 1


def test_an_evaluation_of_nothing_says_so():
  with pytest.raises(UserError, match='error: nothing to measure'):
    make_eval(Counting())({}, [jnp.float32(0)])


def test_the_average_of_a_short_run_has_forgotten_its_initial_weights():
  shares = [float(warmed_up(0.9999, jnp.int32(step))) for step in range(40)]
  assert np.prod(shares) < 1e-6  # without a warm-up 0.996: the average is the initial weights
