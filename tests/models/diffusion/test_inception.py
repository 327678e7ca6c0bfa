"""FID's Inception against a copy in PyTorch with random weights; its file; its resizing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from models.diffusion import inception

# torchvision's 27,161,264 without the auxiliary head's 3,326,696, and with 8 outputs more.
COUNT = 27_161_264 - 3_326_696 + 8 * 2049


@pytest.fixture(scope='module')
def tensors():
  """Random weights under pytorch-fid's names, scaled so that activations stay of one size."""
  rng = np.random.default_rng(0)

  def draw(name, shape):
    if name.endswith('running_var'):
      return rng.uniform(0.5, 2, shape)
    if name.endswith('bn.weight'):
      return rng.uniform(0.7, 1.3, shape)
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 25
    return rng.standard_normal(shape, np.float32) * np.sqrt(2 / fan_in)

  shapes = inception.shapes().items()
  return {name: np.asarray(draw(name, shape), np.float32) for name, shape in shapes}


@pytest.fixture(scope='module')
def file(tensors, tmp_path_factory):
  path = tmp_path_factory.mktemp('inception') / 'weights.safetensors'
  counts = {'Mixed_5b.branch1x1.bn.num_batches_tracked': np.array(0)}
  safetensors.numpy.save_file({**tensors, **counts}, path)
  return path


def test_parameter_count_is_the_published_one():
  shapes = inception.shapes()
  counted = [s for name, s in shapes.items() if 'running' not in name]
  assert sum(np.prod(shape) for shape in counted) == COUNT
  assert len(shapes) == 94 * 5 + 2
  assert shapes['Mixed_6c.branch7x7dbl_2.conv.weight'] == (160, 160, 7, 1)
  assert shapes['Mixed_7c.branch_pool.conv.weight'] == (192, 2048, 1, 1)


# -------- the copy --------


def copy_of(torch, tensors):
  """Returns a function of x `[B, 3, H, W]` to (pool3, logits), with torch and explicit padding."""
  functional = torch.nn.functional
  weights = {name: torch.from_numpy(x) for name, x in tensors.items()}

  def conv(name, x, stride=1, pad=0):
    x = functional.conv2d(x, weights[f'{name}.conv.weight'], stride=stride, padding=pad)
    parts = ('running_mean', 'running_var', 'weight', 'bias')
    x = functional.batch_norm(x, *(weights[f'{name}.bn.{part}'] for part in parts), eps=0.001)
    return functional.relu(x)

  def average(x):
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

  def chain(x, *layers):
    for name, pad in layers:
      x = conv(name, x, pad=pad)
    return x

  def block_a(x, m):
    parts = [
      conv(f'{m}.branch1x1', x),
      chain(x, (f'{m}.branch5x5_1', 0), (f'{m}.branch5x5_2', 2)),
      chain(x, *((f'{m}.branch3x3dbl_{i}', min(i - 1, 1)) for i in (1, 2, 3))),
      conv(f'{m}.branch_pool', average(x)),
    ]
    return torch.cat(parts, 1)

  def block_b(x, m):
    y = chain(x, (f'{m}.branch3x3dbl_1', 0), (f'{m}.branch3x3dbl_2', 1))
    y = conv(f'{m}.branch3x3dbl_3', y, 2)
    return torch.cat([conv(f'{m}.branch3x3', x, 2), y, functional.max_pool2d(x, 3, 2)], 1)

  def block_c(x, m):
    wide, tall = (0, 3), (3, 0)
    double = [(f'{m}.branch7x7dbl_{i}', p) for i, p in enumerate([0, tall, wide, tall, wide], 1)]
    parts = [
      conv(f'{m}.branch1x1', x),
      chain(x, *((f'{m}.branch7x7_{i}', p) for i, p in enumerate([0, wide, tall], 1))),
      chain(x, *double),
      conv(f'{m}.branch_pool', average(x)),
    ]
    return torch.cat(parts, 1)

  def block_d(x, m):
    y = conv(f'{m}.branch3x3_2', conv(f'{m}.branch3x3_1', x), 2)
    z = chain(x, *((f'{m}.branch7x7x3_{i}', p) for i, p in enumerate([0, (0, 3), (3, 0)], 1)))
    z = conv(f'{m}.branch7x7x3_4', z, 2)
    return torch.cat([y, z, functional.max_pool2d(x, 3, 2)], 1)

  def block_e(x, m, pooled):
    y = conv(f'{m}.branch3x3_1', x)
    z = chain(x, (f'{m}.branch3x3dbl_1', 0), (f'{m}.branch3x3dbl_2', 1))
    forks = [('a', (0, 1)), ('b', (1, 0))]
    parts = [
      conv(f'{m}.branch1x1', x),
      *(conv(f'{m}.branch3x3_2{i}', y, pad=p) for i, p in forks),
      *(conv(f'{m}.branch3x3dbl_3{i}', z, pad=p) for i, p in forks),
      conv(f'{m}.branch_pool', pooled),
    ]
    return torch.cat(parts, 1)

  def run(x):
    x = conv('Conv2d_2a_3x3', conv('Conv2d_1a_3x3', x, 2))
    x = functional.max_pool2d(conv('Conv2d_2b_3x3', x, pad=1), 3, 2)
    x = conv('Conv2d_4a_3x3', conv('Conv2d_3b_1x1', x))
    x = functional.max_pool2d(x, 3, 2)
    for name in ('5b', '5c', '5d'):
      x = block_a(x, f'Mixed_{name}')
    x = block_b(x, 'Mixed_6a')
    for name in ('6b', '6c', '6d', '6e'):
      x = block_c(x, f'Mixed_{name}')
    x = block_d(x, 'Mixed_7a')
    x = block_e(x, 'Mixed_7b', average(x))
    x = block_e(x, 'Mixed_7c', functional.max_pool2d(x, 3, 1, 1))
    pooled = x.mean((2, 3))
    return pooled, functional.linear(pooled, weights['fc.weight'], weights['fc.bias'])

  return run


@pytest.mark.long
def test_network_matches_a_torch_implementation(tensors, file):
  """Images of 107 pixels: the smallest at which the last blocks still have 2 x 2."""
  torch = pytest.importorskip('torch')
  x = np.random.default_rng(1).uniform(-1, 1, (2, 107, 107, 3)).astype(np.float32)
  with torch.inference_mode():
    known = copy_of(torch, tensors)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
  got = jax.jit(inception.trunk)(inception.load(file), x)
  for ours, theirs in zip(got, known, strict=True):
    scale = np.abs(theirs.numpy()).max()
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4 * scale)
  assert np.std(known[0].numpy()[0] - known[0].numpy()[1]) > 1e-3  # they do depend on the images


# -------- what it sees --------


def test_resize_matches_a_hand_computed_case():
  """From 2 pixels to 4: read at 0, 1/2, 1 and 3/2, with the last pixel repeated."""
  x = jnp.array([[0.0, 8.0], [4.0, 12.0]]).reshape(1, 2, 2, 1)
  row = np.array([0, 4, 8, 8])
  known = np.array([row, row + 2, row + 4, row + 4])
  np.testing.assert_allclose(inception.resize(x, 4)[0, ..., 0], known, atol=1e-6)


@pytest.mark.parametrize('shape', [(1, 32, 28, 3), (1, 400, 350, 1)])
def test_resize_matches_torch_grid_sample(shape):
  """Output pixel i reads at i * H / size, when enlarging and when shrinking."""
  torch = pytest.importorskip('torch')
  x = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
  height, width = shape[1:3]
  size = 40
  rows, columns = ((2 * (np.arange(size) * n / size) + 1) / n - 1 for n in (height, width))
  grid = np.stack(np.meshgrid(columns, rows), -1)[None].astype(np.float32)
  known = torch.nn.functional.grid_sample(
    torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
    torch.from_numpy(grid),
    padding_mode='border',
    align_corners=False,
  )
  got = np.asarray(inception.resize(jnp.asarray(x), size))
  np.testing.assert_allclose(got.transpose(0, 3, 1, 2), known.numpy(), atol=0.02)


def test_grey_images_are_broadcast_to_three_channels(monkeypatch):
  monkeypatch.setattr(inception, 'trunk', lambda parameters, x: (x, x))
  grey = np.random.default_rng(0).integers(256, size=(2, 8, 8, 1)).astype(np.uint8)
  ours, _ = inception.features({}, jnp.asarray(grey))
  colour, _ = inception.features({}, jnp.asarray(np.repeat(grey, 3, -1)))
  np.testing.assert_array_equal(ours, colour)
  assert ours.shape == (2, 299, 299, 3)
  assert float(ours.min()) >= -1 and float(ours.max()) <= 127 / 128
  assert ours[0, 0, 0, 0] == (float(grey[0, 0, 0, 0]) - 128) / 128


# -------- files --------


def test_npz_and_safetensors_load_the_same(tensors, file, tmp_path):
  np.savez(tmp_path / 'weights.npz', **tensors)
  a, b = inception.load(file), inception.load(tmp_path / 'weights.npz')
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_invalid_files_are_reported_in_one_line(tensors, file, tmp_path):
  def told(path):
    with pytest.raises(ValueError) as error:
      inception.load(path)
    message = str(error.value)
    assert message.startswith(str(path)) and '\n' not in message
    return message

  assert 'no such file' in told(tmp_path / 'absent.safetensors')
  cut = tmp_path / 'cut.safetensors'
  cut.write_bytes(file.read_bytes()[:1_000_000])
  assert 'damaged' in told(cut)
  (tmp_path / 'cut.npz').write_bytes(b'PK\x03\x04 no more')
  assert 'damaged' in told(tmp_path / 'cut.npz')
  (tmp_path / 'weights.pth').write_bytes(b'')
  assert '.safetensors or a .npz' in told(tmp_path / 'weights.pth')

  few = {name: x for name, x in tensors.items() if name in ('fc.weight', 'fc.bias')}
  safetensors.numpy.save_file(few, tmp_path / 'few.safetensors')
  assert 'no tensor Conv2d_1a_3x3.conv.weight' in told(tmp_path / 'few.safetensors')
  zoo = {**tensors, 'fc.weight': np.zeros((1000, 2048), np.float32)}
  safetensors.numpy.save_file(zoo, tmp_path / 'zoo.safetensors')
  assert '(1000, 2048) and not (1008, 2048)' in told(tmp_path / 'zoo.safetensors')


def test_checksum_is_sha256(tmp_path):
  (tmp_path / 'x').write_bytes(b'abc')
  assert inception.checksum(tmp_path / 'x').startswith('ba7816bf')
