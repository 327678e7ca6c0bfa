"""Prepares the process: allocator, XLA's flags, compilation cache.

All of it must be settled before JAX is imported, and launch.py alone asks for it.
"""

import contextlib
import glob
import importlib.metadata
import importlib.util
import io
import itertools
import os
import platform
import sys
from typing import Any

ALLOCATOR = (  # glibc's: huge pages, and no memory goes back to the system
  'glibc.malloc.hugetlb=1',
  'glibc.malloc.mmap_threshold=34359738368',
  'glibc.malloc.trim_threshold=34359738368',
  'glibc.malloc.arena_max=1',  # the arenas of threads would give it back
)
EIGEN_CONVOLUTIONS = '--xla_cpu_experimental_ynn_fusion_type=-individual_convolution'
# Simulated devices that play games of their own meet late: after 40 seconds XLA ends the process.
PATIENCE = '--xla_cpu_collective_call_terminate_timeout_seconds=600'
STARTED_ANEW = 'BREAKTHROUGHS_STARTED_ANEW'
NUMBERS = {'family': 'cpu family', 'model': 'model'}  # as /proc/cpuinfo calls them


class Messages(io.TextIOWrapper):
  """stderr whose reader may be gone or whose disk full: what it cannot say must end nothing."""

  def write(self, text: str) -> int:
    with contextlib.suppress(OSError):
      super().write(text)
    return len(text)

  def flush(self) -> None:
    with contextlib.suppress(OSError):
      super().flush()


def open_streams() -> None:
  """Opens /dev/null for what of stdin, stdout and stderr is closed: a file would take its place."""
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
  sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
  sys.stdout = sys.stdout or open(1, 'w', closefd=False)  # noqa: SIM115
  encoding = sys.stderr.encoding if sys.stderr else None
  stderr = open(2, 'wb', closefd=False)  # noqa: SIM115
  sys.stderr = Messages(stderr, encoding, errors='backslashreplace', line_buffering=True)


def tune() -> dict[str, Any]:
  """Sets up allocator and XLA flags on a CPU; restarts the process where that is needed.

  XLA:CPU allocates its temporaries anew each step, of AlexNet 377 MB: in huge pages that stay with
  the process they cost no page faults. glibc reads such wishes when a process starts. Larger
  convolutions go from YNNPACK to Eigen (docs/speed.md).
  Returns what was done, to be recorded with the run.
  """
  if accelerator():
    return report(host_tuning=False)
  wanted = settings()
  for flag in wanted['XLA_FLAGS'].split():
    _add('XLA_FLAGS', flag, separator=' ')
  if sys.platform == 'linux' and STARTED_ANEW not in os.environ:
    before = os.environ.get('GLIBC_TUNABLES', '')
    for setting in ALLOCATOR:
      _add('GLIBC_TUNABLES', setting, separator=':')
    if os.environ['GLIBC_TUNABLES'] != before:
      os.environ[STARTED_ANEW] = '1'
      sys.stdout.flush()
      os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
  return report(host_tuning=True)


def settings() -> dict[str, str]:
  """Returns environment variable -> the value that runs XLA on a CPU best.

  The flag for convolutions does something in jaxlib 0.10 alone, and XLA ends the process over one
  that it does not know.
  """
  flags = [PATIENCE]
  if importlib.metadata.version('jaxlib').startswith('0.10.'):
    flags.append(EIGEN_CONVOLUTIONS)
  return {'GLIBC_TUNABLES': ':'.join(ALLOCATOR), 'XLA_FLAGS': ' '.join(flags)}


def report(*, host_tuning: bool) -> dict[str, Any]:
  """Returns what of the environment bears on the speed, for run.json."""
  names = ('GLIBC_TUNABLES', 'XLA_FLAGS')
  return {'host_tuning': host_tuning, **{name: os.environ.get(name, '') for name in names}}


def processor() -> str:
  """Returns the processor's name and cores; on x86 family and model, as names tell few apart."""
  found = {'model name': platform.processor() or platform.machine()}
  with contextlib.suppress(OSError), open('/proc/cpuinfo') as file:
    for line in itertools.takewhile(str.strip, file):  # of the first core
      key, _, value = line.partition(':')
      found[key.strip()] = value.strip()
  numbers = [f'{name} {found[key]}' for name, key in NUMBERS.items() if key in found]
  return ', '.join([found['model name'], *numbers, f'{os.cpu_count()} cores'])


def _add(variable: str, setting: str, *, separator: str) -> None:
  """Appends NAME=VALUE to an environment variable, unless the user has set NAME there."""
  settings = os.environ.get(variable, '').split(separator)
  names = [text.partition('=')[0] for text in settings]
  if setting.partition('=')[0] not in names:
    os.environ[variable] = separator.join(filter(None, [*settings, setting]))


def accelerator() -> bool:
  """Returns whether JAX will find a GPU or a TPU, told from files, without importing it."""
  platforms = os.environ.get('JAX_PLATFORMS')
  if platforms:
    return platforms.split(',')[0] != 'cpu'
  has_gpu = importlib.util.find_spec('jax_plugins') and glob.glob('/dev/nvidia[0-9]*')
  return bool(has_gpu) or has_tpu()


def has_tpu() -> bool:
  """Returns whether JAX will find a TPU, told from files."""
  devices = [*glob.glob('/dev/accel[0-9]*'), *glob.glob('/dev/vfio/[0-9]*')]
  return bool(devices) and importlib.util.find_spec('libtpu') is not None


def use_compilation_cache() -> None:
  """Keeps compiled programs across runs, in the user's cache folder unless told another."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', os.path.join(cache, 'breakthroughs', 'xla'))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
