"""The verb `compile` for this machine's devices, and, where their compilers are, for others'."""

import functools
import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data.images.source import ImageMetadata
from models import forms, ops, summary
from tests.train.tasks.selfplay import small_selfplay
from train import config as config_lib
from train import mesh as mesh_lib
from train import verbs
from train.aot import compile as compile_lib
from train.aot import flops, programs, topology
from train.errors import UserError
from train.sections import build_abstract_task, build_task
from train.step import abstract_state

ROOT = pathlib.Path(__file__).parents[3]


def load(name, **overrides):
  config = config_lib.load(str(ROOT / 'configs' / f'{name}.py'))
  for key, text in overrides.items():
    config = config_lib.override(config, key.replace('__', '.'), text)
  return verbs.complete_config(config)


SMALL_GPT = {
  'model__layers': '2',
  'model__width': '32',
  'model__heads': '4',
  'model__block_size': '16',
  'data__block_size': '16',
  'data__batch_size': '32',
  'task__chunk': '8',
  'train__accumulate': '2',
}


@pytest.mark.parametrize(
  'text, rule',
  [
    ('v9:2x2', 'must be a chip (v5e, v5p, v6e, h100, h200, cpu) and a shape'),
    ('h100', 'must be a chip'),
    ('h100:2x4', 'h100 takes one number'),
    ('0x v5e:4x4', 'positive numbers'),
    ('v5e:0x4', 'positive numbers'),
  ],
)
def test_a_topology_that_is_none_is_refused_with_the_choices(text, rule):
  with pytest.raises(UserError, match=rule.replace('(', r'\(').replace(')', r'\)')):
    topology.parse(text)


def test_topologies_are_chips_slices_and_shapes():
  assert topology.parse('v5p:4x4x8') == ('v5p', 1, (4, 4, 8))
  assert topology.parse('2x v5e:4x4') == ('v5e', 2, (4, 4))
  assert topology.parse('4x h100:8') == ('h100', 4, (8,))


def test_a_step_is_compiled_and_described(tmp_path, capsys):
  assert compile_lib.compile_config(load('lenet_digits'), 'cpu:8', str(tmp_path))
  printed = capsys.readouterr()
  assert '8 x cpu, mesh data=8 fsdp=1 tensor=1 context=1' in printed.out
  assert 'fits' in printed.out
  assert 'all-reduce' in printed.out
  assert 'compiling step for cpu:8: done' in printed.err
  record = json.loads((tmp_path / 'compile.json').read_text())
  assert record['topology'] == 'cpu:8'
  # LeNet has 61,706 parameters, and SGD's momentum another.
  assert record['memory']['parameters'] == 61706 * 4
  assert record['memory']['optimizer'] == 61706 * 4 + 4  # and the schedule's count
  # Each gradient is summed once over 8 devices: 2 x 7/8 of its bytes, and a few scalars.
  sent = sum(one['sent'] for one in record['collectives'] if one['axes'] == ['data'])
  assert 61706 * 4 * 14 / 8 <= sent < 61706 * 4 * 14 / 8 + 1000


@pytest.mark.slow
def test_what_does_not_fit_is_said_with_what_would_help(tmp_path, capsys, monkeypatch):
  config = load('gpt_python', **SMALL_GPT)
  chip = topology.CHIPS['cpu']
  few = topology.Chip(chip.platform, 1 << 18, chip.bandwidth, chip.links, chip.network)
  monkeypatch.setitem(topology.CHIPS, 'cpu', few)
  assert not compile_lib.compile_config(config, 'cpu:8', str(tmp_path))
  printed = capsys.readouterr().out
  assert 'DOES NOT FIT' in printed
  assert '--config.mesh.data=1 --config.mesh.fsdp=-1: ' in printed
  tried = json.loads((tmp_path / 'compile.json').read_text())['knobs']
  # With parameters and optimiser over 8 devices a device holds less.
  assert tried[0]['overrides'] == {'mesh.data': '1', 'mesh.fsdp': '-1'}
  assert tried[0]['needs'] < json.loads((tmp_path / 'compile.json').read_text())['needs']


def test_of_self_play_fewer_games_and_a_shorter_replay_are_tried():
  overrides = list(compile_lib.knobs(load('go_19x19')))
  assert {'task.num_envs': '768'} in overrides
  assert {'task.replay.window': '50000000'} in overrides


@pytest.mark.parametrize(
  'said, gib',
  [
    ('Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded by 4.75G.', 20.5),
    ('the total memory required for HLO temporaries (28.44G) exceeds available HBM', 28.44),
  ],
)
def test_what_libtpu_refuses_is_read_in_both_of_its_wordings(said, gib, monkeypatch):
  def refuse(*_):
    raise jax.errors.JaxRuntimeError(f'RESOURCE_EXHAUSTED: {said}')

  monkeypatch.setattr(compile_lib, '_compile', refuse)
  found = compile_lib.attempt(load('lenet_digits'), topology.find('cpu:8'))
  assert found.needs == int(gib * 2**30) and found.memory is None


def test_sharded_parameters_are_gathered_by_layer_and_gradients_cross_replicas_once():
  config = load('gpt_shakespeare_cpu', **SMALL_GPT, mesh__data='2', mesh__fsdp='4')
  found = compile_lib.attempt(config, topology.find('cpu:8'))
  by_axes = {}
  for one in found.collectives:
    by_axes[one.axes] = by_axes.get(one.axes, 0) + one.sent
  # In each of 2 microbatches would be twice as much; scalars and the norms' vectors aside.
  parameters = found.memory.parameters
  assert by_axes['data',] < 1.3 * parameters


@pytest.mark.long
@pytest.mark.parametrize(
  'name', ['lenet_digits', 'gpt_python_cpu', 'diffusion_digits', 'tictactoe']
)
def test_abstract_batches_are_what_sources_give(name):
  config = load(name)
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  with mesh_lib.activate(mesh):
    lowered = programs.train(config, build_abstract_task(config), mesh)
    task = build_task(config)
    source = task.source('train', mesh, 0)
    variables = jax.jit(lambda: mesh_lib.unbox(task.init(jax.random.key(0))))()
    _, batch = source.next(source.init(jax.random.key(0)), 0, variables)
    task.close()

  def shape(leaf):
    return leaf.shape, leaf.dtype

  assert jax.tree.map(shape, batch) == jax.tree.map(shape, lowered.batch)


def test_images_are_not_placed_on_devices_that_are_not_there():
  assert isinstance(build_abstract_task(load('lenet_digits')).data, ImageMetadata)


def test_flops_of_a_gpt_are_those_of_its_formula():
  config = load('gpt_python', **SMALL_GPT, model__vocab_multiple='64')
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  task = build_abstract_task(config)
  with mesh_lib.activate(mesh):
    lowered = programs.train(config, task, mesh)
    variables = {'params': lowered.params}
    counted = flops.count(task, variables, lowered.batch)
  # PaLM's convention leaves out the norms and counts all of the scores, as the trace does.
  np.testing.assert_allclose(counted, task.flops, rtol=0.02)


def test_flops_of_lenet_are_three_times_its_multiply_adds_twice():
  config = load('lenet_digits')
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  task = build_abstract_task(config)
  with mesh_lib.activate(mesh):
    lowered = programs.train(config, task, mesh)
  total = sum(layer.multiply_adds for layer in summary.layers(task.model, task.input_shape))
  assert lowered.flops == 6 * total * config['data']['batch_size']


def test_flops_of_what_devices_share_are_those_of_the_whole():
  x, kernel = jnp.ones((16, 6, 6, 8)), jnp.ones((3, 3, 4, 8))
  program = jax.jit(functools.partial(ops.conv, groups=2))
  with mesh_lib.activate(mesh_lib.make_mesh()), forms.use('plain'):
    counted = flops.of_programs({'conv': program.trace(x, kernel)})
  assert counted == 2 * (16 * 6 * 6 * 8) * (3 * 3 * 4)


def test_flops_of_self_play_are_those_of_its_search():
  config = small_selfplay.config_of(moves_per_step=1)
  task, mesh = build_abstract_task(config), mesh_lib.make_mesh()
  with mesh_lib.activate(mesh), forms.use('plain'):
    variables = abstract_state(task, optax.sgd(0.1), mesh)[0].variables
    playing, batch = task.source('train', mesh, 0).trace(variables)
    forward = flops.of_step(task, variables, batch) / 3 / config['data']['batch_size']
  num_envs, num_simulations = 16, 6
  assert flops.of_programs(playing) == num_envs * (num_simulations + 1) * forward


@pytest.mark.long
def test_runs_that_training_begins_from_need_not_be_there(tmp_path):
  mesh = mesh_lib.make_mesh()
  board = {'task__size': '5', 'model__layers': '2', 'model__filters': '8'}
  for name, key, text, small in (
    ('consistency_digits', 'teacher', 'it is the one to distil', {'model__num_res_blocks': '1'}),
    ('alphago_reinforce', 'sl_policy', 'training begins from it', board),
  ):
    config = load(name, **{f'task__{key}': str(tmp_path)}, **small)
    source = build_abstract_task(config).source('train', mesh, 0)
    with pytest.raises(UserError, match=text):
      source.init(jax.random.key(0))
    with mesh_lib.activate(mesh):
      variables = programs.abstract_model(build_abstract_task(config), mesh)
      source.trace({'params': variables['params'], **variables['extra']})


@pytest.mark.long
def test_the_values_policies_are_known_by_their_configs(tmp_path):
  policy = load('alphago_policy', model__layers='3', model__filters='8')
  (tmp_path / 'config.json').write_text(json.dumps(policy))
  runs = {'task__sl_policy': str(tmp_path), 'task__rl_policy': str(tmp_path)}
  task = build_abstract_task(load('alphago_value', **runs))
  mesh = mesh_lib.make_mesh()
  with mesh_lib.activate(mesh):
    traced, _ = task.source('train', mesh, 0).trace({})
  assert set(traced) == {'play', 'draw', 'inputs'}


# -------- compilers of devices that are not here --------


def compiled(tmp_path, name, hardware, *overrides):
  command = [sys.executable, 'launch.py', 'compile', f'--config={name}', f'--topology={hardware}']
  subprocess.run([*command, f'--workdir={tmp_path}', *overrides], cwd=ROOT, check=True)
  return json.loads((tmp_path / 'compile.json').read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
  'hardware, module, kernel',
  [
    ('v5e:4x4', 'libtpu', 'convolution'),
    ('h100:8', 'jax_cuda13_plugin', '__cudnn$convBackwardFilter'),
  ],
)
def test_lenet_for_hardware_that_is_not_here(tmp_path, hardware, module, kernel):
  if importlib.util.find_spec(module) is None:
    pytest.skip(f'{module} is not installed: make venv EXTRAS=cpu,test,tpu,cuda')
  record = compiled(tmp_path, 'lenet_digits', hardware)
  assert record['kernels'][kernel] > 0
  assert not any('onednn' in name or 'ffi' in name for name in record['kernels'])
  assert record['needs'] < record['limit']


@pytest.mark.slow
@pytest.mark.parametrize('axis', ['fsdp', 'context'])
def test_attention_on_an_h100_is_the_flash_kernel(tmp_path, axis):
  if importlib.util.find_spec('jax_cuda13_plugin') is None:
    pytest.skip('the CUDA plugin is not installed: make venv EXTRAS=cpu,test,cuda')
  small = ['model.layers=2', 'data.batch_size=80', f'mesh.{axis}=2', 'train.accumulate=2']
  record = compiled(tmp_path, 'gpt2_124m', 'h100:8', *(f'--config.{x}' for x in small))
  assert record['kernels']['__cudnn$fmhaSoftmax'] > 0
