"""What each pillar's programs communicate, on simulated devices: no more than they need."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from models import ops
from tests.train.tasks.selfplay import small_selfplay
from train import config as config_lib
from train import mesh as mesh_lib
from train import verbs
from train.aot import compile as compile_lib
from train.aot import hlo, topology

CONFIGS = pathlib.Path(__file__).parents[3] / 'configs'
DEVICES = 8
SCALARS = 2048  # bytes: losses, counts, the parts of a key


def load(name, **overrides):
  config = config_lib.load(str(CONFIGS / f'{name}.py'))
  for key, text in overrides.items():
    config = config_lib.override(config, key.replace('__', '.'), text)
  return verbs.complete_config(config)


def sent(config, verb='train'):
  """Returns kind -> bytes that a device sends, and the bytes of the parameters."""
  found = compile_lib.attempt(config, topology.find(f'cpu:{DEVICES}'), verb)
  kinds = {}
  for one in found.collectives:
    kinds[one.kind] = kinds.get(one.kind, 0) + one.sent
  return kinds, found.memory.parameters


SMALL_DIFFUSION = {
  'model__channels': '8',
  'model__groups': '2',
  'model__num_res_blocks': '1',
  'model__head_width': '4',
  'data__batch_size': '16',
}
SMALL_GPT = {
  'model__layers': '2',
  'model__width': '32',
  'model__heads': '4',
  'model__block_size': '16',
  'data__block_size': '16',
  'data__batch_size': '32',
}


@pytest.mark.parametrize(
  'config',
  [
    load('lenet_digits'),
    load('gpt_shakespeare_cpu', **SMALL_GPT),
    pytest.param(
      load('gpt_shakespeare_cpu', **SMALL_GPT, train__accumulate='4'), marks=pytest.mark.long
    ),
    pytest.param(load('diffusion_digits', **SMALL_DIFFUSION), marks=pytest.mark.long),
    pytest.param(small_selfplay.config_of(), marks=pytest.mark.long),
    pytest.param(
      load('alphago_policy_cpu', model__layers='3', model__filters='8', data__batch_size='16'),
      marks=pytest.mark.long,
    ),
  ],
  ids=['classify', 'gpt', 'gpt in microbatches', 'diffusion', 'self-play', 'go_policy'],
)
def test_data_parallel_training_sums_each_gradient_once(config):
  kinds, parameters = sent(config)
  others = {kind: size for kind, size in kinds.items() if kind != 'all-reduce'}
  assert sum(others.values()) < SCALARS
  # By a ring, and with what BatchNorm and the metrics sum.
  assert kinds['all-reduce'] < 1.2 * 2 * (DEVICES - 1) / DEVICES * parameters + SCALARS


@pytest.mark.long
def test_guided_samples_stay_on_their_devices():
  config = load('diffusion_digits', **SMALL_DIFFUSION, task__sampling__num_steps='3')
  assert config['task']['sampling']['guidance_scale'] == 2.0
  kinds, _ = sent(config, 'sample')
  # The images, as bytes, for the host.
  assert set(kinds) == {'all-gather'}
  size = config['task']['sampling']['sample_batch_size'] * 8 * 8
  assert kinds['all-gather'] < size + SCALARS


@pytest.mark.parametrize('form', ops.FORMULATIONS)
def test_a_grouped_convolution_sums_its_kernels_gradient_and_nothing_else(form):
  mesh = mesh_lib.make_mesh()

  def loss(kernel, x):
    with ops.use(form):
      return ops.conv(x, kernel, groups=2).astype(jnp.float32).sum()

  with mesh_lib.activate(mesh):
    rows, whole = mesh_lib.batch_sharding(mesh), mesh_lib.replicated(mesh)
    x = jax.ShapeDtypeStruct((16, 6, 6, 64), jnp.bfloat16, sharding=rows)
    kernel = jax.ShapeDtypeStruct((3, 3, 32, 64), jnp.bfloat16, sharding=whole)
    text = jax.jit(jax.grad(loss, (0, 1))).lower(kernel, x).compile().as_text()
  (one,) = hlo.Program(text, mesh.shape).collectives()
  assert (one.kind, one.size) == ('all-reduce', 3 * 3 * 32 * 64 * 4)
