"""Diffusion transformers and the text encoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import build
from models.diffusion import dit
from models.diffusion.dit import DiT
from models.diffusion.text_encoder import TextEncoder
from tests.models.diffusion import denoising
from tests.models.diffusion.denoising import assert_close, normals, shapes_of
from train import mesh as mesh_lib

SMALL = {'patch': 2, 'layers': 2, 'heads': 2, 'width': 16, 'scan': True}


def small(**kwargs):
  return DiT(**{**SMALL, **kwargs})


def images(batch=2, height=8, width=4, channels=3):
  x = normals(batch, height, width, channels)
  return x, np.linspace(1, 900, batch, dtype=np.float32)


@functools.cache
def start(net):
  return denoising.random_values(shapes_of(net, *images(1)), 0.3)


def run(net, x, t, **given):
  # Of another dtype the variables are the same.
  return denoising.apply(net, start(net.clone(dtype='float32')), x, t, **given)


# -------- the paper's networks --------


@pytest.mark.parametrize(
  ('name', 'patch', 'millions'),
  [('dit_s', 2, 33), ('dit_b', 4, 130), ('dit_l', 8, 459), ('dit_xl', 2, 675)],
)
def test_parameter_counts_match_table_4(name, patch, millions):
  net = build(name, patch=patch, num_classes=1000, learned_variance=True)
  shapes = shapes_of(net, *images(1, 32, 32, 4))
  assert round(denoising.count(shapes) / 1e6) == millions


def test_residual_branches_and_output_are_initialised_to_zero():
  net = small()
  x, t = images()
  variables = denoising.initial(net, x, t)
  assert not denoising.apply(net, variables, x, t).any()
  layer = jax.tree.map(lambda w: w[0], variables['params']['blocks'])
  h = normals(2, 5, 16)
  same = denoising.jit(net.layer)(normals(2, 16), None, None, h, layer)
  np.testing.assert_array_equal(same, h)


# -------- the parts --------


def test_patches_are_row_major_and_invertible():
  x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  tokens = dit.patches(x, 2)
  assert tokens.shape == (2, 6, 12)
  np.testing.assert_array_equal(tokens[1, 4], x[1, 2:4, 2:4].ravel())
  np.testing.assert_array_equal(dit.image(tokens, 2, 2), x)


def test_positions_may_begin_with_the_column():
  y, other = dit.positions(3, 5, 8), dit.positions(3, 5, 8, columns_first=True)
  np.testing.assert_array_equal(other, np.roll(y, 4, axis=1))


def test_positions_are_sinusoids_of_row_and_column():
  y = dit.positions(3, 5, 8)
  row, column = 2, 4
  expected = [f(i * r) for i in (row, column) for f in (np.sin, np.cos) for r in (1, 0.01)]
  np.testing.assert_allclose(y[row * 5 + column], expected, atol=1e-6)


def test_norm_has_mean_0_and_variance_1():
  y = dit.norm(jnp.asarray(3 + 2 * normals(4, 64)))
  np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
  np.testing.assert_allclose(y.var(-1), 1, atol=1e-5)


# -------- inputs --------


def test_output_depends_on_noise_level_and_position():
  net = small(learned_variance=True)
  x, t = images()
  y = run(net, x, t)
  assert y.shape == (2, 8, 4, 6) and y.dtype == np.float32
  other = run(net, x, t + np.array([0, 9], np.float32))
  np.testing.assert_allclose(y[0], other[0], atol=1e-6)
  assert np.abs(y[1] - other[1]).max() > 1e-3
  assert np.abs(run(net, x[:, ::-1], t)[:, ::-1] - y).max() > 1e-3
  same = run(net, np.ones_like(x), t)
  assert np.abs(same[0, 0, 0] - same[0, 6, 0]).max() > 1e-3


def test_no_label_has_an_embedding_of_its_own():
  net = small(num_classes=3)
  x, t = images(4)
  y, none = run(net, x, t, label=np.array([0, 2, -1, 3])), run(net, x, t)
  np.testing.assert_allclose(y[2:], none[2:], atol=1e-6)
  assert all(np.abs(y[i] - none[i]).max() > 1e-3 for i in range(2))


def test_masked_context_is_ignored():
  net = small(context_width=5)
  x, t = images(2)
  context, mask = normals(2, 4, 5), np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)
  y = run(net, x, t, context=context, mask=mask)
  other = run(net, x, t, context=context + np.repeat([0, 1], 2)[:, None], mask=mask)
  np.testing.assert_allclose(y[0], other[0], atol=1e-6)
  assert np.abs(y[1] - other[1]).max() > 1e-3
  nothing = run(net, x, t, context=context, mask=np.zeros((2, 4), bool))
  np.testing.assert_allclose(nothing, run(net, x, t), atol=1e-6)
  assert np.abs(nothing - y).max() > 1e-3


# -------- other formulations --------

EVERYTHING = small(num_classes=3, context_width=5)


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
@pytest.mark.parametrize(
  ('fields', 'form'),
  [({'scan': False}, 'plain'), ({'remat': 'block'}, 'plain'), ({}, 'cpu')],
)
def test_scan_remat_and_cpu_formulation_keep_gradients(fields, form):
  x, t, given = batch()
  net, variables = EVERYTHING.clone(**fields), start(EVERYTHING)
  assert_close(plain(), denoising.loss_and_gradients(net, variables, x, t, form=form, **given))


def test_remat_saves_memory():
  x, t = images()

  def kept(net):
    pull = jax.eval_shape(lambda v: jax.vjp(lambda v: net.apply(v, x, t), v)[1], start(small()))
    return sum(leaf.size for leaf in jax.tree.leaves(pull))

  assert kept(small(remat='block')) < 0.7 * kept(small())


def test_bfloat16_is_close_to_float32():
  x, t = images()
  y, half = run(small(), x, t), run(small(dtype='bfloat16'), x, t)
  assert half.dtype == np.float32
  assert 1e-4 < np.abs(y - half).max() / np.abs(y).max() < 0.1


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


# -------- checks --------


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'remat': 'all'}, r"model.remat='all': choose from none, block"),
    ({'layers': 0}, r'model.layers=0: at least 1'),
    ({'heads': 3}, r'model.heads=3: must divide model.width=16'),
    ({'width': 18}, r'model.width=18: must be a multiple of 4'),
  ],
)
def test_invalid_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    small(**fields)


def test_invalid_inputs_are_refused():
  x, t = images(1)
  with pytest.raises(ValueError, match=r'images of 8 x 4: model.patch=3 must divide both'):
    shapes_of(small(patch=3), x, t)
  with pytest.raises(ValueError, match=r'label: the network has none; give it model.num_classes'):
    run(small(), x, t, label=np.zeros(1, int))
  with pytest.raises(ValueError, match=r'a context of width 2: the network takes'):
    run(small(context_width=3), x, t, context=normals(1, 1, 2))


# -------- the text encoder --------


def test_text_encoder_is_bidirectional_and_ignores_padding():
  net = TextEncoder(vocab_size=7, block_size=6, layers=2, heads=2, width=8, scan=True)
  tokens = np.array([[3, 1, 4, -1, -1], [3, 1, 5, -1, -1], [2, 0, 0, 2, 6], [-1] * 5])
  variables = denoising.random_values(shapes_of(net, tokens), 0.3)
  context, mask = denoising.apply(net, variables, tokens)
  assert context.shape == (4, 5, 8)
  np.testing.assert_array_equal(mask, tokens >= 0)
  assert np.isfinite(context).all()
  assert np.abs(context[0, 0] - context[1, 0]).max() > 1e-3  # by a later token
  alone, _ = denoising.apply(net, variables, tokens[:1, :3])
  np.testing.assert_allclose(context[0, :3], alone[0], atol=1e-5)
  with pytest.raises(ValueError, match='7 tokens: block_size=6 is the most'):
    shapes_of(net, np.zeros((1, 7), int))
