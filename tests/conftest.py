"""Stricter than production: 8 simulated CPU devices, no silent broadcasting over ranks.

The variables must stand before the first import of jax, so they are set here at import.
"""

import os
import pathlib

import hypothesis
import pytest

cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(cache / 'breakthroughs' / 'xla'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
os.environ['XLA_FLAGS'] = ' '.join(
  [
    os.environ.get('XLA_FLAGS', ''),
    '--xla_force_host_platform_device_count=8',
    # As many workers as cores: to compile a program in 32 parts side by side costs an eighth more.
    '--xla_cpu_parallel_codegen_split_count=1',
    # Eight devices on one or two busy cores meet late: XLA's 40 seconds would end the process.
    '--xla_cpu_collective_call_terminate_timeout_seconds=600',
  ]
).strip()

# An example that is the first to compile takes as long as it takes.
hypothesis.settings.register_profile('untimed', deadline=None)
hypothesis.settings.load_profile('untimed')


@pytest.fixture(scope='module')
def one_device():
  """Runs that take what devices there are take one of the eight: they are ready sooner."""
  import jax

  from train import mesh

  make = mesh.make_mesh

  def of_one(*shape, devices=None, **sizes):
    return make(*shape, devices=devices, **sizes) if devices else make(devices=jax.devices()[:1])

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(mesh, 'make_mesh', of_one)
    yield


@pytest.fixture(scope='module', autouse=True)
def forget_programs():
  """A worker that kept all that it compiles would need many gigabytes."""
  yield
  import jax

  jax.clear_caches()
