"""The U-Net: the papers' parameter counts, diffusers' numbers, and the same in other forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import diffusion as bench
from models import build, ops
from models.diffusion.unet import UNet
from models.diffusion.unet_blocks import ResBlock
from tests.models.diffusion import denoising
from tests.models.diffusion.denoising import assert_close, normals, shapes_of
from train import mesh as mesh_lib

SMALL = {
  'channels': 16,
  'channel_multipliers': (1, 2),
  'num_res_blocks': 1,
  'attention_resolutions': (4,),
  'groups': 4,
}
TINY = {
  'channel_multipliers': (1,),
  'attention_resolutions': (),
}  # attention in the middle alone: it compiles sooner
SCORE_SDE = {
  'resampling': 'block',
  'skip_rescale': True,
  'project_shortcut': True,
  'up_attention': 'last',
}
VARIANTS = {
  'ddpm': {},
  'adm': {'resampling': 'block', 'scale_shift_norm': True, 'head_width': 8, 'num_classes': 3},
  'ncsnpp': {**SCORE_SDE, 'fir': True, 'embedding': 'fourier', 'input_skip': True},
  'text': {'context_width': 5, 'heads': 2, 'learned_variance': True},
}


def small(name='ddpm', **kwargs):
  return UNet(**{**SMALL, **VARIANTS[name], **kwargs})


def images(batch=2, size=8, channels=2):
  return normals(batch, size, size, channels), np.linspace(0.1, 1, batch, dtype=np.float32)


@functools.cache
def start(net, channels=2):
  return denoising.random_values(shapes_of(net, *images(1, channels=channels)))


def run(net, x, t, *, variables=None, **given):
  return denoising.apply(net, variables or start(net, x.shape[-1]), x, t, **given)


# -------- the papers' networks --------


@pytest.mark.parametrize(
  ('name', 'size', 'parameters'),
  [
    ('ddpm', 32, 35_746_307),
    ('ncsnpp', 32, 62_758_787),
    ('edm', 32, 55_732_739),
    ('adm_imagenet64', 64, 295_904_454),
  ],
)
def test_parameter_counts_are_the_published_ones(name, size, parameters):
  """35.7M (Ho), 56M (Karras), 296M (Dhariwal & Nichol); for NCSN++ there is no published count."""
  assert denoising.count(shapes_of(build(name), *images(1, size, 3))) == parameters


def test_the_benchmarks_network_has_as_many_parameters_as_diffusers():
  net = UNet(**bench.SHAPE)
  assert denoising.count(shapes_of(net, *images(1, *bench.IMAGE[1:]))) == bench.PARAMETERS


def from_diffusers(name, array, levels):
  """Returns our path and array for a parameter of UNet2DModel."""
  parts = name.split('.')
  leaf = {'weight': 'kernel' if array.ndim > 1 else 'scale', 'bias': 'bias'}[parts.pop()]
  array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
  if parts[-1] == '0' and parts[-2] == 'to_out':
    parts.pop()
  words = {'time_emb_proj': 'embedding', 'conv_shortcut': 'shortcut', 'group_norm': 'norm'}
  words |= {'to_q': 'query', 'to_k': 'key', 'to_v': 'value', 'to_out': 'out'}
  last = words.get(parts[-1], parts[-1])
  if len(parts) == 1:
    return ({'conv_norm_out': 'norm_out'}.get(last, last), leaf), array
  if parts[0] == 'time_embedding':
    return ('embedding', last.replace('linear_', 'dense'), leaf), array
  if parts[0] == 'mid_block':
    block, (kind, j) = 'middle', parts[1:3]
  else:
    level = int(parts[1])
    block = f'down{level}' if parts[0] == 'down_blocks' else f'up{levels - 1 - level}'
    kind, j = parts[2:4]
  if kind.endswith('samplers'):
    return (f'{block}_resample', 'conv', leaf), array
  block = f'{block}_{j}' + '_attention' * (kind == 'attentions')
  return (
    (block, 'conv1_bias') if (last, leaf) == ('conv1', 'bias') else (block, last, leaf)
  ), array


@pytest.fixture(scope='module')
def theirs():
  torch = pytest.importorskip('torch')
  diffusers = pytest.importorskip('diffusers')
  torch.manual_seed(0)
  net = diffusers.UNet2DModel(
    sample_size=8,
    in_channels=2,
    out_channels=2,
    layers_per_block=1,
    block_out_channels=(16, 32),
    down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
    up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    norm_num_groups=4,
    attention_head_dim=8,
    norm_eps=1e-6,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
  ).eval()
  with torch.no_grad():
    for p in net.parameters():
      p.add_(0.05 * torch.randn_like(p))
  return torch, net


@pytest.mark.long
def test_outputs_match_diffusers(theirs):
  torch, reference = theirs
  net = small(head_width=8)
  params = jax.tree.map(lambda x: None, start(net)['params'])
  for name, array in reference.state_dict().items():
    path, array = from_diffusers(name, array.numpy(), levels=2)
    branch = functools.reduce(lambda tree, key: tree[key], path[:-1], params)
    assert path[-1] in branch
    branch[path[-1]] = array
  assert not any(x is None for x in jax.tree.leaves(params, is_leaf=lambda x: x is None))
  x, t = normals(3, 8, 8, 2), np.array([0, 17, 900], np.float32)
  with torch.no_grad():
    expected = reference(torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(t)).sample
  ours = run(net, x, t, variables={'params': params})
  np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), expected, atol=2e-5)


def test_the_benchmarks_measure_diffusers_network_of_that_size(theirs):
  from benchmarks import torch_unet  # which imports diffusers

  net = torch_unet.unet(bench.SHAPE, bench.IMAGE)
  assert type(net) is type(theirs[1])
  assert sum(p.numel() for p in net.parameters()) == bench.PARAMETERS


# -------- inputs --------


def test_a_fresh_network_outputs_zero():
  net = small(**TINY)
  x, t = images()
  variables = denoising.initial(net, x, t)
  assert not run(net, x, t, variables=variables).any()
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_a_fresh_block_with_skip_rescale_divides_by_sqrt_2():
  x, embedding = normals(1, 4, 4, 8), normals(1, 3)
  block = ResBlock(8, skip_rescale=True)
  y, _ = denoising.jit(lambda: block.init_with_output(jax.random.key(0), x, embedding, False))()
  np.testing.assert_allclose(y, x / 2**0.5, rtol=1e-6)


@pytest.mark.parametrize('name', ['ncsnpp', 'text'])
def test_output_depends_on_the_own_noise_level_alone(name):
  net = small(name)
  x, t = images()
  y = run(net, x, t)
  assert y.shape == (2, 8, 8, 4 if name == 'text' else 2) and y.dtype == np.float32
  other = run(net, x, t + np.array([0, 0.5], np.float32))
  np.testing.assert_allclose(y[0], other[0], atol=1e-6)
  assert np.abs(y[1] - other[1]).max() > 1e-3


def test_no_label_is_minus_one_or_the_number_of_classes_or_none():
  net = small('adm', **TINY)
  x, t = images(4)
  labelled = run(net, x, t, label=np.array([0, 1, -1, 3]))
  none = run(net, x, t)
  np.testing.assert_allclose(labelled[2:], none[2:], atol=1e-6)
  assert all(np.abs(labelled[i] - none[i]).max() > 1e-3 for i in range(2))


def test_masked_context_is_ignored():
  net = small('text', **TINY)
  x, t = images(3)
  context, mask = normals(3, 4, 5), np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
  y = run(net, x, t, context=context, mask=mask)
  changed = context.copy()
  changed[:, 2:] += 1
  other = run(net, x, t, context=changed, mask=mask)
  np.testing.assert_allclose(y[[0, 2]], other[[0, 2]], atol=1e-6)
  assert np.abs(y[1] - other[1]).max() > 1e-3
  np.testing.assert_allclose(y[2], run(net, x, t)[2], atol=1e-6)
  np.testing.assert_allclose(y[1], run(net, x, t, context=context)[1], atol=1e-6)


def test_dropout_acts_in_training_only():
  net = small(dropout=0.5, **TINY)
  x, t = images()
  same = run(net, x, t)
  np.testing.assert_array_equal(same, run(net, x, t, rngs={'dropout': jax.random.key(1)}))
  one, two = (run(net, x, t, train=True, rngs={'dropout': jax.random.key(i)}) for i in (1, 2))
  assert np.abs(one - two).max() > 1e-3 and np.abs(one - same).max() > 1e-3


# -------- other formulations --------

EVERYTHING = small('adm', context_width=5, **TINY)


def batch():
  """Returns images, times and conditions, some of which are dropped as for guidance."""
  mask = np.arange(3) < np.array([3, 1, 0, 2, 3, 0, 1, 2])[:, None]
  given = {'label': np.arange(8) % 4, 'context': normals(8, 3, 5, seed=1), 'mask': mask}
  return *images(8), given


@functools.cache
def plain():
  """Returns loss and gradients of the plain formulation on one device."""
  x, t, given = batch()
  return jax.device_get(denoising.loss_and_gradients(EVERYTHING, start(EVERYTHING), x, t, **given))


@pytest.mark.long
def test_cpu_formulation_matches_the_plain_one():
  x, t, given = batch()
  variables = start(EVERYTHING)
  cpu = denoising.loss_and_gradients(EVERYTHING, variables, x, t, form='cpu', **given)
  assert_close(plain(), cpu, 1e-4)


@pytest.mark.long
def test_remat_keeps_gradients_and_saves_memory():
  x, t, given = batch()
  net, variables = EVERYTHING.clone(remat='block'), start(EVERYTHING)
  assert_close(plain(), denoising.loss_and_gradients(net, variables, x, t, **given))

  def kept(net):
    with ops.use('plain'):
      pull = jax.eval_shape(lambda v: jax.vjp(lambda v: net.apply(v, x, t), v)[1], variables)
    return sum(leaf.size for leaf in jax.tree.leaves(pull))

  assert kept(net) < 0.7 * kept(EVERYTHING)


@pytest.mark.long
def test_sharded_loss_and_gradients_match_one_device():
  x, t, given = batch()
  mesh = mesh_lib.make_mesh(2, 2, 2)
  shardings = mesh_lib.shardings(shapes_of(EVERYTHING, *images(1)), mesh)
  specs = [s.spec for s in jax.tree.leaves(shardings)]
  assert all(any(axis in spec for spec in specs) for axis in ('fsdp', 'tensor'))
  with mesh_lib.activate(mesh):
    variables = jax.tree.map(jax.device_put, start(EVERYTHING), shardings)
    x, t, given = jax.device_put((x, t, given), mesh_lib.batch_sharding(mesh))
    many = denoising.loss_and_gradients(EVERYTHING, variables, x, t, form='cpu', **given)
  assert_close(plain(), jax.device_get(many), 1e-4)


def test_bfloat16_is_close_to_float32():
  x, t = images()
  y, half = run(small(**TINY), x, t), run(small(dtype='bfloat16', **TINY), x, t)
  assert half.dtype == np.float32
  assert 1e-4 < np.abs(y - half).max() / np.abs(y).max() < 0.1


# -------- checks --------


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'resampling': 'pool'}, "model.resampling='pool': choose from conv, block"),
    ({'num_res_blocks': 0}, 'model.num_res_blocks=0: at least 1'),
    ({'dropout': 1.0}, 'model.dropout=1.0: from 0 to below 1'),
    ({'downsample_padding': 2}, 'model.downsample_padding=2: choose from 0, 1'),
    ({'downsample_padding': 1, 'fir': True}, 'model.downsample_padding=1: model.fir has its own'),
    ({'norm_epsilon': 0.0}, 'model.norm_epsilon=0.0: above 0 and below 1'),
    ({'heads': 3}, 'model.heads=3: must divide 32 channels'),
    ({'channel_multipliers': ()}, r'model.channel_multipliers=\(\): one or more positive numbers'),
  ],
)
def test_invalid_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    small(**fields)


def test_indivisible_image_size_is_refused():
  net = small(channel_multipliers=(1, 2, 2))
  message = r'images of 10 x 8: 3 levels \(model.channel_multipliers\) need multiples of 4'
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(net.init, jax.random.key(0), normals(1, 10, 8, 1), normals(1))


def test_heads_must_divide_the_channels_of_attention():
  net = small(channels=6, heads=4)  # 6 channels at 8 x 8, 12 at 4 x 4
  shapes_of(net, *images(1))
  with pytest.raises(ValueError, match=r'model.heads=4: must divide 6 channels'):
    shapes_of(net.clone(attention_resolutions=(8,)), *images(1))


def test_unsupported_labels_and_contexts_are_refused():
  x, t = images(1)
  with pytest.raises(ValueError, match=r'label: the network has none; give it model.num_classes'):
    run(small(), x, t, label=np.zeros(1, int))
  with pytest.raises(
    ValueError, match=r'a context of width 3: the network takes model.context_width=0'
  ):
    run(small(), x, t, context=normals(1, 2, 3))


@pytest.mark.parametrize('size, levels', [(28, 3), (8, 4), (32, 4)])
def test_sizes_of_mnist_digits_and_cifar(size, levels):
  net = small(channel_multipliers=[1] * levels)  # a list, as JSON has it
  x, t = images(1, size, 1)
  y, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), x, t)
  assert y.shape == x.shape
  assert hash(net)
