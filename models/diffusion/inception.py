"""The Inception-v3 of FID: the network of TensorFlow's 2015 archive, with 1,008 outputs.

It differs from the Inception-v3 of model zoos: average pools exclude the padding from their mean,
the pool of the last block is a max pool, and the weights are others. Tensors have the names of
pytorch-fid (github.com/mseitzer/pytorch-fid), which ported them. A file of weights is made with

  import torch, safetensors.torch
  tensors = torch.load('pt_inception-2015-12-05-6726825d.pth', weights_only=True)
  tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
  safetensors.torch.save_file(tensors, 'inception.safetensors')

from the weights that pytorch-fid publishes with its releases; neither library is needed here.
"""

import hashlib
import pathlib
import zipfile
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from safetensors import SafetensorError
from safetensors.numpy import load_file

SIZE = 299  # pixels, height and width of the network's input
FEATURES = 2048
OUTPUTS = 1008
EPSILON = 1e-3  # in batch normalisation

# Maps (name, x, features, window, strides, 'SAME' or 'VALID') to relu of a convolution of x.
Conv = Callable[..., Array]
Parameters = dict[str, dict[str, Array]]

# -------- the network --------


def features(parameters: Parameters, images: Array) -> tuple[Array, Array]:
  """Returns pool3 `[B, 2048]` and logits `[B, 1008]` of uint8 images `[B, H, W, 3 or 1]`.

  Images are resized and scaled by (x - 128) / 128, as in the 2015 graph and the FIDs of the papers.
  pytorch-fid resizes and scales differently: its numbers differ a little.
  """
  x = resize(images.astype(jnp.float32), SIZE)
  return trunk(parameters, (jnp.broadcast_to(x, (*x.shape[:3], 3)) - 128) / 128)


def resize(x: Array, size: int) -> Array:
  """Returns `[B, size, size, C]`, resized bilinearly: pixel i is read at i * H / size.

  This is TensorFlow 1's ResizeBilinear, which aligns the first pixels. Other programs align the
  centres of pixels, which is half an output pixel less half an input pixel away.
  """
  rows, columns = (jnp.asarray(_interpolation(n, size), x.dtype) for n in x.shape[1:3])
  return jnp.einsum('ih,jw,bhwc->bijc', rows, columns, x, precision='highest')


def _interpolation(count: int, size: int) -> np.ndarray:
  """Returns the weights of input pixels, float64 `[size, count]`."""
  position = np.arange(size) * (count / size)
  below = np.floor(position).astype(int)
  share = np.zeros((size, count))
  share[np.arange(size), below] = 1 - (position - below)
  share[np.arange(size), np.minimum(below + 1, count - 1)] += position - below
  return share


def trunk(parameters: Parameters, x: Array) -> tuple[Array, Array]:
  """Returns pool3 and logits of scaled images `[B, H, W, 3]`, of 75 pixels or more."""

  def conv(name, x, features, window, strides=1, padding='SAME'):
    del features
    kernel, bias = parameters[name]['kernel'], parameters[name]['bias']
    numbers = ('NHWC', 'HWIO', 'NHWC')
    y = lax.conv_general_dilated(x, kernel, (strides, strides), padding, dimension_numbers=numbers)
    return jax.nn.relu(y + bias.reshape(1, 1, 1, -1))

  pooled = _blocks(conv, x).mean((1, 2))
  last = parameters['fc']
  return pooled, pooled @ last['kernel'] + last['bias'][None]


def _blocks(conv: Conv, x: Array) -> Array:
  """Returns `[B, h, w, 2048]` from `[B, H, W, 3]` (Szegedy 2016, arXiv 1512.00567, table 1)."""
  x = conv('Conv2d_1a_3x3', x, 32, (3, 3), 2, 'VALID')
  x = conv('Conv2d_2a_3x3', x, 32, (3, 3), 1, 'VALID')
  x = max_pool(conv('Conv2d_2b_3x3', x, 64, (3, 3)))
  x = conv('Conv2d_3b_1x1', x, 80, (1, 1), 1, 'VALID')
  x = max_pool(conv('Conv2d_4a_3x3', x, 192, (3, 3), 1, 'VALID'))
  for name, pooled in (('Mixed_5b', 32), ('Mixed_5c', 64), ('Mixed_5d', 64)):
    x = _figure5(conv, name, x, pooled)
  x = _halve_35(conv, 'Mixed_6a', x)
  for name, inner in (('Mixed_6b', 128), ('Mixed_6c', 160), ('Mixed_6d', 160), ('Mixed_6e', 192)):
    x = _figure6(conv, name, x, inner)
  x = _halve_17(conv, 'Mixed_7a', x)
  x = _figure7(conv, 'Mixed_7b', x, average_pool)
  return _figure7(conv, 'Mixed_7c', x, lambda x: max_pool(x, 1, 'SAME'))


def _figure5(conv: Conv, name: str, x: Array, pooled: int) -> Array:
  """Applies the block of figure 5: two 3x3 convolutions in place of a 5x5, beside a 5x5."""
  a = conv(f'{name}.branch1x1', x, 64, (1, 1))
  b = conv(f'{name}.branch5x5_1', x, 48, (1, 1))
  b = conv(f'{name}.branch5x5_2', b, 64, (5, 5))
  c = conv(f'{name}.branch3x3dbl_1', x, 64, (1, 1))
  c = conv(f'{name}.branch3x3dbl_2', c, 96, (3, 3))
  c = conv(f'{name}.branch3x3dbl_3', c, 96, (3, 3))
  d = conv(f'{name}.branch_pool', average_pool(x), pooled, (1, 1))
  return jnp.concatenate([a, b, c, d], -1)


def _halve_35(conv: Conv, name: str, x: Array) -> Array:
  a = conv(f'{name}.branch3x3', x, 384, (3, 3), 2, 'VALID')
  b = conv(f'{name}.branch3x3dbl_1', x, 64, (1, 1))
  b = conv(f'{name}.branch3x3dbl_2', b, 96, (3, 3))
  b = conv(f'{name}.branch3x3dbl_3', b, 96, (3, 3), 2, 'VALID')
  return jnp.concatenate([a, b, max_pool(x)], -1)


def _figure6(conv: Conv, name: str, x: Array, inner: int) -> Array:
  """Applies the block of figure 6: 1x7 and 7x1 convolutions in place of 7x7."""
  a = conv(f'{name}.branch1x1', x, 192, (1, 1))
  b = conv(f'{name}.branch7x7_1', x, inner, (1, 1))
  b = conv(f'{name}.branch7x7_2', b, inner, (1, 7))
  b = conv(f'{name}.branch7x7_3', b, 192, (7, 1))
  c = conv(f'{name}.branch7x7dbl_1', x, inner, (1, 1))
  for i, window in ((2, (7, 1)), (3, (1, 7)), (4, (7, 1))):
    c = conv(f'{name}.branch7x7dbl_{i}', c, inner, window)
  c = conv(f'{name}.branch7x7dbl_5', c, 192, (1, 7))
  d = conv(f'{name}.branch_pool', average_pool(x), 192, (1, 1))
  return jnp.concatenate([a, b, c, d], -1)


def _halve_17(conv: Conv, name: str, x: Array) -> Array:
  a = conv(f'{name}.branch3x3_1', x, 192, (1, 1))
  a = conv(f'{name}.branch3x3_2', a, 320, (3, 3), 2, 'VALID')
  b = conv(f'{name}.branch7x7x3_1', x, 192, (1, 1))
  b = conv(f'{name}.branch7x7x3_2', b, 192, (1, 7))
  b = conv(f'{name}.branch7x7x3_3', b, 192, (7, 1))
  b = conv(f'{name}.branch7x7x3_4', b, 192, (3, 3), 2, 'VALID')
  return jnp.concatenate([a, b, max_pool(x)], -1)


def _figure7(conv: Conv, name: str, x: Array, pool: Callable[[Array], Array]) -> Array:
  """Applies the block of figure 7: branches that fork into a 1x3 and a 3x1 convolution."""
  a = conv(f'{name}.branch1x1', x, 320, (1, 1))
  b = conv(f'{name}.branch3x3_1', x, 384, (1, 1))
  b2 = [conv(f'{name}.branch3x3_2{i}', b, 384, w) for i, w in (('a', (1, 3)), ('b', (3, 1)))]
  c = conv(f'{name}.branch3x3dbl_1', x, 448, (1, 1))
  c = conv(f'{name}.branch3x3dbl_2', c, 384, (3, 3))
  c2 = [conv(f'{name}.branch3x3dbl_3{i}', c, 384, w) for i, w in (('a', (1, 3)), ('b', (3, 1)))]
  d = conv(f'{name}.branch_pool', pool(x), 192, (1, 1))
  return jnp.concatenate([a, *b2, *c2, d], -1)


def max_pool(x: Array, strides: int = 2, padding: str = 'VALID') -> Array:
  """Returns the largest of each window of 3 x 3."""
  return _pool(x, -jnp.inf, lax.max, strides, padding)


def average_pool(x: Array) -> Array:
  """Returns means of 3x3 pixels, without stride; at the border of those inside the image."""
  counts = _pool(jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0.0, lax.add, 1, 'SAME')
  return _pool(x, 0.0, lax.add, 1, 'SAME') / counts


def _pool(x, start, reduce, strides, padding):
  return lax.reduce_window(x, start, reduce, (1, 3, 3, 1), (1, strides, strides, 1), padding)


# -------- weights --------


def shapes() -> dict[str, tuple[int, ...]]:
  """Returns name -> shape, in PyTorch's order, of all tensors in a file of weights."""
  found: dict[str, tuple[int, ...]] = {}

  def conv(name, x, features, window, strides=1, padding='SAME'):
    found[f'{name}.conv.weight'] = (features, x.shape[-1], *window)
    for part in ('weight', 'bias', 'running_mean', 'running_var'):
      found[f'{name}.bn.{part}'] = (features,)
    kernel = jnp.zeros((*window, x.shape[-1], features))
    numbers = ('NHWC', 'HWIO', 'NHWC')
    return lax.conv_general_dilated(
      x, kernel, (strides, strides), padding, dimension_numbers=numbers
    )

  jax.eval_shape(lambda x: _blocks(conv, x), jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32))
  return {**found, 'fc.weight': (OUTPUTS, FEATURES), 'fc.bias': (OUTPUTS,)}


def load(path: str | pathlib.Path) -> Parameters:
  """Loads the parameters of a .safetensors or .npz file, batch normalisation folded into kernels.

  Raises ValueError if the file is missing, damaged, or of another network.
  """
  tensors = _read(pathlib.Path(path))
  for name, shape in shapes().items():
    if name not in tensors:
      raise ValueError(
        f'{path}: has no tensor {name}; see models/diffusion/inception.py for what it should be'
      )
    if tensors[name].shape != shape:
      raise ValueError(
        f'{path}: {name} is of shape {tensors[name].shape} and not {shape}, as in the Inception'
        ' of FID'
      )
  convolutions = [name.removesuffix('.conv.weight') for name in shapes() if '.conv.' in name]
  last = {'kernel': tensors['fc.weight'].T, 'bias': tensors['fc.bias']}
  parameters = {**{name: _folded(tensors, name) for name in convolutions}, 'fc': last}
  return jax.tree.map(lambda x: np.asarray(x, np.float32), parameters)


def _folded(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Returns a convolution with its batch normalisation, kernel `[h, w, in, out]`, bias `[out]`."""
  kernel = np.asarray(tensors[f'{name}.conv.weight'], np.float64).transpose(2, 3, 1, 0)
  scale, bias, mean, variance = (
    np.asarray(tensors[f'{name}.bn.{part}'], np.float64)
    for part in ('weight', 'bias', 'running_mean', 'running_var')
  )
  scale = scale / np.sqrt(variance + EPSILON)
  return {'kernel': kernel * scale, 'bias': bias - mean * scale}


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  if not path.is_file():
    raise ValueError(f'{path}: no such file')
  if path.suffix not in ('.safetensors', '.npz'):
    raise ValueError(
      f'{path}: must be a .safetensors or a .npz file; models/diffusion/inception.py has how'
    )
  try:
    if path.suffix == '.safetensors':
      return load_file(path)
    with np.load(path, allow_pickle=False) as file:
      return dict(file)
  except (SafetensorError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f'{path}: damaged, or no {path.suffix} file ({error})') from None


def checksum(path: str | pathlib.Path) -> str:
  """Returns the file's SHA-256, which is reported with every number that it was used for."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
