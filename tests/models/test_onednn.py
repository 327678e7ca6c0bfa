"""Convolution by oneDNN: XLA's own numbers, in whatever program it stands."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models import ops
from models.cpu import build, onednn

ROOT = pathlib.Path(__file__).parents[2]
NO_PADS = ((0, 0), (0, 0))

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def in_form(form, function):
  """`function` traced in one form; a new function, since JAX would know the old one."""

  def traced(*args):
    with ops.use(form):
      return function(*args)

  return traced


def assert_close(ours, expected, tolerance=5e-6):
  """Within `tolerance` of the largest number: sums in another order."""
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def with_gradients(**settings):
  """A function of x, kernel: the outputs, and both gradients in a direction of their own."""

  def function(x, kernel):
    y, pullback = jax.vjp(lambda x, kernel: ops.conv(x, kernel, **settings), x, kernel)
    return y, *pullback(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

  return function


# x, kernel, settings; between them all ways in which a call is cut into jobs
CASES = {
  'one channel': ((4, 28, 28, 1), (5, 5, 1, 6), {}),
  'large window, large stride': ((2, 67, 67, 3), (11, 11, 3, 96), {'strides': (4, 4)}),
  'groups': ((2, 13, 13, 96), (5, 5, 48, 256), {'groups': 2}),
  'a group a channel': ((2, 20, 20, 8), (3, 5, 1, 8), {'groups': 8, 'strides': (1, 2)}),
  'unequal padding': ((7, 32, 32, 16), (3, 3, 16, 32), {'padding': ((0, 1), (2, 0))}),
  '1 x 1 with stride': ((2, 14, 14, 64), (1, 1, 64, 128), {'strides': (2, 2)}),
  'one image': ((1, 9, 9, 64), (3, 3, 64, 128), {}),
  'a kernel larger than its images': ((8, 7, 7, 128), (3, 3, 128, 256), {}),
  'odd channels, a prime number of images': ((5, 9, 9, 17), (3, 3, 17, 19), {}),
}


@pytest.mark.parametrize('case', CASES)
def test_values_and_gradients_are_those_of_xla(case):
  x, kernel, settings = CASES[case]
  x, kernel = normal(0, *x), normal(1, *kernel)
  function = with_gradients(**settings)
  assert_close(*(jax.jit(in_form(form, function))(x, kernel) for form in ('cpu', 'plain')))


@pytest.mark.parametrize('threads', [1, 2, 3, 8])
def test_any_number_of_threads(threads, monkeypatch):
  monkeypatch.setattr(onednn, 'threads', lambda: threads)
  for case in ('unequal padding', 'one image', 'a kernel larger than its images'):
    test_values_and_gradients_are_those_of_xla(case)


def half(case, dtype):
  *shapes, settings = CASES[case]
  return [jnp.asarray(normal(i, *shape), dtype) for i, shape in enumerate(shapes)], settings


def test_float16_is_computed_in_float32():
  (x, kernel), settings = half('groups', jnp.float16)
  ours = ops.conv(x, kernel, **settings)
  wide = ops.conv(x.astype(jnp.float32), kernel.astype(jnp.float32), **settings)
  assert ours.dtype == jnp.float16
  np.testing.assert_array_equal(ours, wide.astype(jnp.float16))


@pytest.mark.parametrize('native', [True, False])
@pytest.mark.parametrize('case', CASES)
def test_bfloat16_is_summed_in_float32(case, native, monkeypatch):
  """Values and gradients are the sums rounded once, whether the processor multiplies it or not."""
  if not native:
    monkeypatch.setattr(onednn, '_width', lambda dtype: np.float32)
  (x, kernel), settings = half(case, jnp.bfloat16)
  ours, pullback = jax.vjp(lambda x, kernel: ops.conv(x, kernel, **settings), x, kernel)
  dy = jnp.asarray(normal(2, *ours.shape), jnp.bfloat16)
  found = ours, *pullback(dy)
  wide = [a.astype(jnp.float32) for a in (x, kernel)]
  y, pullback = jax.vjp(lambda x, kernel: ops.conv(x, kernel, **settings), *wide)
  assert all(a.dtype == jnp.bfloat16 for a in found)
  # 8 bits of precision, and sums in another order.
  assert_close([a.astype(jnp.float32) for a in found], (y, *pullback(dy.astype(y.dtype))), 2**-8)


def test_no_pixel_and_no_image():
  assert ops.conv(normal(0, 2, 2, 2, 8), normal(1, 3, 3, 8, 8), padding='VALID').size == 0
  assert ops.conv(normal(0, 0, 5, 5, 8), normal(1, 3, 3, 8, 8)).shape == (0, 5, 5, 8)


def test_what_it_does_not_have_is_left_to_xla():
  """Padding by less than nothing, and numbers of 64 bits."""
  x, kernel = normal(0, 2, 9, 9, 4), normal(1, 3, 3, 4, 4)
  cropped = ops.conv(x, kernel, padding=((-1, -1), (-2, 0)))
  assert_close(cropped, ops.conv(x[:, 1:-1, 2:], kernel, padding='VALID'))
  assert not onednn.takes(x.astype(np.float64), kernel.astype(np.float64), (1, 1), NO_PADS, 1)


def test_a_second_derivative_is_refused_in_a_line():
  total = lambda x: ops.conv(x, normal(1, 3, 3, 2, 2)).sum()  # noqa: E731
  gradient = lambda x: jnp.square(jax.grad(total)(x)).sum()  # noqa: E731
  with pytest.raises(NotImplementedError, match=r'no second derivative.*ops\.use'):
    jax.grad(lambda x: gradient(jnp.square(x)))(normal(0, 1, 4, 4, 2))


# -------- in programs --------


def body(x, kernel):
  return jnp.tanh(ops.conv(x, kernel))


def test_in_loops():
  x, kernel = normal(0, 2, 8, 8, 16), normal(1, 3, 3, 16, 16) / 10

  def scanned(kernel):
    y, _ = lax.scan(lambda x, _: (body(x, kernel), None), x, None, length=4)
    return jnp.square(y).sum()

  def repeated(kernel):
    return lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, body(c[1], kernel)), (0, x))[1]

  for function in (jax.value_and_grad(scanned), repeated):
    assert_close(*(jax.jit(in_form(form, function))(kernel) for form in ('cpu', 'plain')))


@pytest.mark.parametrize('axes', [(0, None), (None, 0), (0, 0)])
def test_under_vmap(axes):
  x, kernel = normal(0, 3, 2, 8, 8, 16), normal(1, 3, 3, 3, 16, 16)
  x, kernel = (a if axis == 0 else a[0] for a, axis in zip((x, kernel), axes, strict=True))
  function = jax.vmap(with_gradients(), axes)
  assert_close(*(jax.jit(in_form(form, function))(x, kernel) for form in ('cpu', 'plain')))


def loss(kernel, x):
  return jnp.square(body(x, kernel)).mean()


@pytest.mark.parametrize(('shape', 'axes'), [((8,), ('data',)), ((2, 4), ('data', 'fsdp'))])
def test_a_jitted_program_over_a_mesh_splits_the_call(shape, axes):
  """Each device computes its own images: no batch is gathered, the kernel's gradient is summed."""
  x, kernel = normal(0, 16, 12, 12, 16), normal(1, 3, 3, 16, 32)
  expected = jax.jit(jax.value_and_grad(loss))(kernel, x)
  mesh = jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * len(shape))
  with jax.set_mesh(mesh):
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec(axes)))
    program = jax.jit(jax.value_and_grad(loss)).lower(kernel, split).compile()
  assert_close(program(kernel, split), expected)
  text = program.as_text()
  calls = [line for line in text.splitlines() if 'custom_call_target="onednn_conv"' in line]
  assert calls and all('f32[2,12,12,' in line for line in calls)
  assert 'all-gather' not in text and 'all-reduce' in text


def test_a_batch_that_the_mesh_does_not_divide():
  x, kernel = normal(0, 3, 12, 12, 16), normal(1, 3, 3, 16, 32)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  with jax.set_mesh(mesh):
    ours = jax.jit(jax.value_and_grad(loss))(kernel, x)
  assert_close(ours, jax.jit(in_form('plain', jax.value_and_grad(loss)))(kernel, x))


def test_a_kernel_that_is_split_over_devices():
  x, kernel = normal(0, 4, 12, 12, 16), normal(1, 3, 3, 16, 32)
  mesh = jax.make_mesh((2, 4), ('data', 'tensor'), axis_types=(AxisType.Auto,) * 2)
  with jax.set_mesh(mesh):
    placed = NamedSharding(mesh, PartitionSpec(None, None, None, 'tensor'))
    ours = jax.jit(jax.value_and_grad(loss))(jax.device_put(kernel, placed), x)
  assert_close(ours, jax.jit(in_form('plain', jax.value_and_grad(loss)))(kernel, x))


def test_under_shard_map_and_pmap():
  """The gradient of a kernel that all devices have is summed once."""
  x, kernel = normal(0, 16, 8, 8, 16), normal(1, 3, 3, 16, 16)
  expected = jax.jit(jax.value_and_grad(loss))(kernel, x)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  whole, rows = PartitionSpec(), PartitionSpec('data')

  @jax.jit
  @functools.partial(jax.shard_map, mesh=mesh, in_specs=(whole, rows), out_specs=whole)
  def sharded(kernel, x):
    return jax.value_and_grad(lambda kernel: lax.pmean(loss(kernel, x), 'data'))(kernel)

  assert_close(sharded(kernel, x), expected)
  mapped = jax.pmap(
    lambda kernel, x: lax.pmean(jax.value_and_grad(loss)(kernel, x), 'data'),
    axis_name='data',
    in_axes=(None, 0),
    out_axes=None,
  )
  assert_close(mapped(kernel, x.reshape(8, 2, 8, 8, 16)), expected)


def test_many_calls_at_once_end_and_give_the_same_bits():
  """Eight devices, each with four independent calls, on one pool of threads."""
  x, kernel = normal(0, 8, 16, 16, 32), normal(1, 4, 3, 3, 32, 32)

  def one(x):
    return [ops.conv(x, kernel[i]).sum((1, 2)) for i in range(4)]

  mapped = jax.pmap(one)
  first = mapped(x.reshape(8, 1, 16, 16, 32))
  for _ in range(30):
    again = mapped(x.reshape(8, 1, 16, 16, 32))
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_xla_accounts_for_its_memory():
  x, kernel = normal(0, 2, 16, 16, 64), normal(1, 3, 3, 64, 64)
  program = jax.jit(lambda x, kernel: ops.conv(x, kernel)).lower(x, kernel).compile()
  assert program.memory_analysis().temp_size_in_bytes >= kernel.nbytes  # in oneDNN's layout


# -------- where it is not --------


def run(code, cache, **environment):
  everything = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(cache), 'JAX_PLATFORMS': 'cpu'}
  everything |= {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0', **environment}
  command = [sys.executable, '-c', code]
  done = subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()


def test_a_process_without_it_says_so_and_shares_the_compilation_cache(tmp_path):
  code = """
import jax, numpy as np
from models import ops
from models.cpu import build
x = np.ones((2, 8, 8, 16), np.float32)
program = jax.jit(lambda x: ops.conv(x, np.ones((3, 3, 16, 16), np.float32)))
print(build.why_not())
print('onednn_conv' in program.lower(x).as_text(), float(program(x).sum()))
"""
  result = f'{float(2 * 16 * 16 * (8 * 3 - 2) ** 2)}'
  for environment, reason, used in (
    ({}, '', True),
    ({'BREAKTHROUGHS_ONEDNN': 'off'}, 'BREAKTHROUGHS_ONEDNN=off', False),
    ({}, '', True),
  ):
    assert run(code, tmp_path, **environment) == [reason, f'{used} {result}']


def test_reasons(monkeypatch, tmp_path):
  def reason(**replaced):
    with monkeypatch.context() as patch:
      for name, value in replaced.items():
        patch.setattr(build, name, value)
      return build._library.__wrapped__()

  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  packages = ('no-such-package', *build.PACKAGES[1:])
  assert reason(PACKAGES=packages) == "no-such-package is not installed (pip install '.[cpu]')"
  packages = ('numpy', *build.PACKAGES[1:])
  assert reason(PACKAGES=packages) == 'onednn.c was not built: numpy has no libdnnl.so.3'
  broken = tmp_path / 'broken.c'
  broken.write_text('int x = y;')
  assert "broken.c:1: error: 'y' undeclared" in reason(SOURCE=broken)
  assert not list((tmp_path / 'breakthroughs').iterdir())


def test_processes_that_build_it_at_the_same_time(tmp_path):
  code = 'from models.cpu import build; print(build.why_not())'
  environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}
  command = [sys.executable, '-c', code]
  started = [
    subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    for _ in range(3)
  ]
  assert [process.communicate()[0] for process in started] == ['\n'] * 3
  assert len(list((tmp_path / 'breakthroughs').iterdir())) == 1
