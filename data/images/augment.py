"""Augmentation on the devices, inside the compiled step: `'random_crop(padding=4)|flip()'`.

Every operation is `(keys, images, targets) -> (images, targets)`:

  keys: [B], one for each example.
  images: float32 [B, H, W, C] in [0, 1].
  targets: float32 [B, K], class probabilities.

Keys belong to examples, so the result does not depend on how a batch is laid out over devices. The
one exception is `mixup`, which needs a partner from what it sees: under pmap, from the same device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from data import checks
from data import spec as spec_lib

# RGB of ImageNet's training set as the public implementations of AlexNet's jitter have it.
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = (
  (-0.5675, 0.7192, 0.4009),
  (-0.5808, -0.0045, -0.8140),
  (-0.5836, -0.6948, 0.4203),
)


Augment = Callable[[Array, Array, Array], tuple[Array, Array]]


def parse(
  spec: str, where: str = 'augment', image_shape: tuple[int, int, int] | None = None
) -> Augment:
  """Returns the operations of `spec` as one function; that of '' changes nothing.

  Args:
    spec: the operations.
    where: the config key, with which messages begin.
    image_shape: [H, W, C] of the images, with which the operations must get along.

  Raises:
    ValueError: a string that is no list of operations, or one that does not fit the images.
  """
  ops = spec_lib.parse(spec, OPERATIONS, where)
  for op in ops:
    if (probability := op.keywords.get('probability', 0)) > 1:
      raise ValueError(f'{where}: probability={probability}: must be at most 1')

  def augment(keys, images, targets):
    for number, op in enumerate(ops):
      # By its place in the list, so that an operation that is used twice draws apart.
      images, targets = op(jax.vmap(jax.random.fold_in, (0, None))(keys, number), images, targets)
    return images, targets

  if image_shape is not None:
    try:
      jax.eval_shape(lambda: augment(*_example(image_shape)))
    except ValueError as error:
      raise ValueError(f'{where}={checks.shown(spec)}: {error}') from error
  return augment


def _example(shape: tuple[int, int, int]) -> tuple[Array, Array, Array]:
  """Returns keys, images and targets of a batch of two."""
  return jax.random.split(jax.random.key(0)), jnp.zeros((2, *shape)), jnp.zeros((2, 1))


def flip(keys, images, targets, *, probability: float = 0.5):
  """Mirrors left and right with the given probability."""
  chosen = jax.vmap(jax.random.bernoulli, (0, None))(keys, probability)
  # Both are computed and one is chosen: a branch for each image would do the same under `vmap`.
  return jnp.where(_per_image(chosen), images[:, :, ::-1], images), targets


def random_crop(keys, images, targets, *, padding: int):
  """Pads with zeros and crops back at random; CIFAR pads by 4 (He et al. 2015, section 4.2)."""
  height, width = images.shape[1:3]
  if padding >= min(height, width):
    raise ValueError(f'random_crop(padding={padding}) of {height} x {width} pixels: must be less')
  pad = (padding, padding)
  return _random_window(keys, jnp.pad(images, ((0, 0), pad, pad, (0, 0))), height, width), targets


def random_crop_to(keys, images, targets, *, size: int):
  """Cuts out a random `size` x `size` window: 224 of 256 (Krizhevsky et al. 2012, 4.1)."""
  _check_window(images, size)
  return _random_window(keys, images, size, size), targets


def cutout(keys, images, targets, *, size: int, fill: float = 0.0):
  """Fills a square around a random pixel; what hangs over the edge is cut off.

  DeVries and Taylor 2017, section 3.2. They fill with 0 after normalisation: pass the set's mean
  for the same.
  """
  height, width = images.shape[1:3]
  if size >= min(height, width):
    raise ValueError(f'cutout(size={size}) of {height} x {width} pixels: must be less')
  # The centre is anywhere in the image, so that a square may hang over; some images keep more.
  sides = np.array([height, width], np.int32)
  center = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, sides))(keys)
  first = center - size // 2  # [B, 2]

  def inside(start, length):  # [B] -> [B, length]
    place = jnp.arange(length)[None, :] - start[:, None]
    return (place >= 0) & (place < size)

  hole = inside(first[:, 0], height)[:, :, None] & inside(first[:, 1], width)[:, None, :]
  return jnp.where(hole[..., None], fill, images), targets


def affine(
  keys,
  images,
  targets,
  *,
  rotation: float = 0.0,
  scale: float = 0.0,
  shear: float = 0.0,
  shift: float = 0.0,
):
  """Rotates, scales, shears and shifts at random about the centre; bilinear, zeros outside.

  Each is uniform: the angle in +-`rotation` degrees, a factor for each axis in 1 +- `scale`, the
  horizontal displacement a pixel of height in +-`shear`, each axis' shift in +-`shift` pixels.
  """
  if scale >= 1:
    raise ValueError(f'affine(scale={scale}): must be less than 1, at which an image vanishes')
  draw = jax.vmap(lambda key: jax.random.uniform(key, (6,), minval=-1.0))(keys)  # [B, 6]
  angle = draw[:, 0] * np.float32(np.pi / 180 * rotation)
  factor = 1 + scale * draw[:, 1:3]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # From an output pixel to where it is read: shear, then scale, then rotation, in (y, x).
  slant = shear * draw[:, 3]
  # Columns times factors: the scale acts on (y, x) before the rotation does.
  matrix = _stack2(cos, sin, -sin, cos) * factor[:, None, :]
  ones, zeros = jnp.ones_like(slant), jnp.zeros_like(slant)
  matrix = _product(matrix, _stack2(ones, zeros, slant, ones))
  return _resample(images, matrix, shift * draw[:, 4:6]), targets


def mixup(keys, images, targets, *, alpha: float):
  """Mixes each example, and its targets, with the one half a batch away.

  The weight is Beta(alpha, alpha), drawn for each example (Zhang et al. 2018, section 2).
  """
  if alpha == 0:  # the limit of no mixing
    return images, targets
  if len(images) < 2:
    raise ValueError(
      'mixup: an image is mixed with another of its batch, which has only 1 (data.batch_size over'
      " train.accumulate, and under parallel='pmap' over the devices)"
    )
  # [B]: one for each example, where the paper's code draws one for the batch.
  weight = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
  half = images.shape[0] // 2

  def mix(x, weight):
    # A roll, not a permutation: batches are shuffled already, and whole blocks change devices.
    return weight * x + (1 - weight) * jnp.roll(x, half, axis=0)

  return mix(images, _per_image(weight)), mix(targets, weight[:, None])


def color_pca(
  keys,
  images,
  targets,
  *,
  std: float = 0.1,
  eigenvalues: tuple = IMAGENET_EIGENVALUES,
  eigenvectors: tuple = IMAGENET_EIGENVECTORS,
):
  """Adds [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T to every pixel of an image, a ~ N(0, std).

  p (the columns of `eigenvectors`) and l belong to the covariance of RGB over the training set
  (Krizhevsky et al. 2012, 4.1); `pca` finds those of a set that is not ImageNet.
  """
  shapes = images.shape[-1:], np.shape(eigenvalues), np.shape(eigenvectors)
  if shapes != ((3,), (3,), (3, 3)):
    raise ValueError(
      f'color_pca: {images.shape[-1]} channels, eigenvalues {shapes[1]}, eigenvectors {shapes[2]};'
      ' must be RGB, (3,) and (3, 3)'
    )
  vectors, values = np.array(eigenvectors, np.float32), np.array(eigenvalues, np.float32)
  basis = vectors * values  # [3, 3]: column i is l_i p_i
  alpha = std * jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)  # [B, 3]
  # Three terms and no jnp.sum: XLA:CPU (JAX 0.10.2) fuses that wrongly in batches of this size.
  terms = [alpha[:, i, None] * basis[None, :, i] for i in range(3)]
  color = terms[0] + terms[1] + terms[2]  # [B, 3]
  return images + color[:, None, None, :], targets


OPERATIONS: dict[str, Callable[..., Any]] = {
  'affine': affine,
  'color_pca': color_pca,
  'cutout': cutout,
  'flip': flip,
  'mixup': mixup,
  'random_crop': random_crop,
  'random_crop_to': random_crop_to,
}


def pca(images: np.ndarray) -> tuple[tuple, tuple]:
  """Returns what `color_pca` takes: principal components of a set's RGB values.

  Args:
    images: uint8 [N, H, W, 3], taken as [0, 1].

  Returns:
    Eigenvalues of the covariance, the largest first, and eigenvectors as columns.
  """
  pixels = np.asarray(images).reshape(-1, images.shape[-1]) / 255
  values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
  # `eigh` has the smallest first.
  return tuple(values[::-1].tolist()), tuple(map(tuple, vectors[:, ::-1].tolist()))


# -------- test-time views: [B, H, W, C] -> [B, views, h, w, C] --------


def center_crop(images: Array, *, size: int) -> Array:
  """Cuts out the centre, one view."""
  _check_window(images, size)
  top, left = (images.shape[1] - size) // 2, (images.shape[2] - size) // 2
  return images[:, None, top : top + size, left : left + size]


def ten_crop(images: Array, *, size: int) -> Array:
  """Cuts out corners, centre and their mirror images (Krizhevsky et al. 2012, 4.1)."""
  _check_window(images, size)
  # The last row and the last column at which a crop begins.
  low, left = images.shape[1] - size, images.shape[2] - size
  corners = [
    images[:, y : y + size, x : x + size] for y, x in ((0, 0), (0, left), (low, 0), (low, left))
  ]
  return _and_mirrored(jnp.stack([*corners, center_crop(images, size=size)[:, 0]], axis=1))


def mirrored_shifts(images: Array, *, shift: int = 1) -> Array:
  """Shifts twice along the diagonal, and mirrors: 6 views. An open edge is filled by its neighbour.

  Jordan 2024 (arXiv 2404.00498, section 3.5), where what is not shifted weighs twice as much.
  """
  pad = (shift, shift)
  padded = jnp.pad(images, ((0, 0), pad, pad, (0, 0)), mode='edge')
  height, width = images.shape[1:3]
  places = (shift, 0, 2 * shift)  # in the padded image; the first is where the image was
  return _and_mirrored(
    jnp.stack([padded[:, i : i + height, i : i + width] for i in places], axis=1)
  )


VIEWS = {view.__name__: view for view in (center_crop, mirrored_shifts, ten_crop)}


def _and_mirrored(views: Array) -> Array:
  """Appends the mirror images of the views."""
  return jnp.concatenate([views, views[:, :, :, ::-1]], axis=1)


def _per_image(x: Array) -> Array:
  """Reshapes [B] to [B, 1, 1, 1]."""
  return x[:, None, None, None]


def _stack2(a, b, c, d):
  """Returns [B, 2, 2] of four [B], row by row."""
  return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def _product(a, b):
  """Multiplies [B, 2, 2] @ [B or 1, 2, N] in float32 on every platform: these are coordinates."""
  return a[:, :, :1] * b[:, :1] + a[:, :, 1:] * b[:, 1:]


def _check_window(images: Array, size: int) -> None:
  if size > min(images.shape[1:3]):
    raise ValueError(
      f'a crop of {size} from images of {images.shape[1]} x {images.shape[2]}: must not be larger'
    )


def _random_window(keys, images, height: int, width: int):
  """Cuts a window at a uniformly random place from each image: -> [B, height, width, C]."""
  room = np.array([images.shape[1] - height + 1, images.shape[2] - width + 1], np.int32)

  def window(key, image):
    y, x = jax.random.randint(key, (2,), 0, room)  # every place at which the window fits
    return lax.dynamic_slice(image, (y, x, 0), (height, width, image.shape[-1]))

  return jax.vmap(window)(keys, images)


def _resample(images, matrix, shift):
  """Reads [B, H, W, C] at `matrix` [B, 2, 2] @ (y, x) + `shift` [B, 2] pixels from the centre.

  Four gathers along one flat axis of pixels: on a CPU five times as fast as slices of 2 x 2.
  """
  batch, height, width, channels = images.shape
  middle = np.array([(height - 1) / 2, (width - 1) / 2], np.float32)
  grid = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32) - middle[:, None]  # [2, HW]
  source = _product(matrix, grid[None]) + (shift + middle[None])[:, :, None]
  # From one pixel outside the image on, everything reads zeros: one before, two after.
  source = jnp.clip(source, -1.0, np.array([height, width], np.float32)[None, :, None])
  low = jnp.floor(source)
  part = (source - low)[..., None]  # [B, 2, HW, 1]
  padded = jnp.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0))).reshape(batch, -1, channels)
  row, column = low[:, 0].astype(jnp.int32) + 1, low[:, 1].astype(jnp.int32) + 1
  # The index of the upper left of four pixels, in rows that the padding made 3 longer.
  first = row * (width + 3) + column

  def line(index):  # along x, between index and its right neighbour
    take = [jnp.take_along_axis(padded, (index + i)[..., None], axis=1) for i in (0, 1)]
    return take[0] * (1 - part[:, 1]) + take[1] * part[:, 1]

  out = line(first) * (1 - part[:, 0]) + line(first + width + 3) * part[:, 0]
  return out.reshape(images.shape)
