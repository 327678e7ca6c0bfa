"""Decoding and resizing on the host, before batching: `'inception_crop(224)|random_flip()'`.

Operations take a PIL image and a NumPy generator, and return an image. The first one sees a JPEG
before it is decoded and lets the decoder shrink it by 2, 4 or 8 on the way, which is most of the
speed on photographs. `data.images.modes` has what becomes of depth, alpha and orientation.
"""

import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data import spec as spec_lib
from data.images import modes

Item = bytes | np.ndarray  # an image, encoded in bytes or uint8 [H, W, C]
Op = functools.partial  # an operation whose arguments but the image and the generator are bound
Rng = np.random.Generator


def decode(
  item: Item | Image.Image, ops: Sequence[Op], channels: int, rng: Rng | None = None
) -> np.ndarray:
  """Decodes an image and applies operations to it.

  Args:
    item: an encoded image, or one as `modes.open_image` returns it, or uint8 [H, W, C].
    ops: as `parse` returns them.
    channels: of the result: 1, 3 or 4.
    rng: what random operations draw from.

  Returns:
    uint8 [H', W', channels].
  """
  if isinstance(item, np.ndarray):
    if not ops:
      return item
    image: Image.Image = Image.fromarray(item[..., 0] if item.shape[-1] == 1 else item)
  else:
    opened = modes.open_image(item) if isinstance(item, bytes) else item
    image = modes.flatten(opened, channels)
  for op in ops:
    image = op(image, rng)
  pixels = np.asarray(image.convert(modes.CHANNELS[channels]))
  return pixels.reshape(*pixels.shape[:2], channels)


def parse(spec: str, where: str) -> list[Op]:
  """Returns the operations of a string such as `'resize_shorter(256)|center_crop(224)'`.

  Raises ValueError, which begins with `where`, on anything else.
  """
  ops = spec_lib.parse(spec, FIXED | RANDOM, where)
  for op in ops:
    for name, most in (('area', 1.0), ('ratio', math.inf)):
      low_high = op.keywords.get(name, (1, 1))
      if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1] <= most:
        limit = ' <= 1' if most == 1 else ''
        raise ValueError(f'{where}: {name}={low_high}: must be (low, high), 0 < low <= high{limit}')
  return ops


def is_random(ops: Sequence[Op]) -> bool:
  """Tells whether one of the operations draws random numbers."""
  return any(op.func in RANDOM.values() for op in ops)


def resize(image: Image.Image, rng: Rng, *, size: int) -> Image.Image:
  """Resizes to `size` x `size`, whatever the aspect ratio."""
  _draft(image, 2 * size / min(image.size))
  return _resize(image, (size, size))


def resize_shorter(
  image: Image.Image, rng: Rng, *, size: int, bicubic: bool = False
) -> Image.Image:
  """Resizes the shorter side to `size` pixels, bilinear or bicubic; keeps the aspect ratio."""
  scale = size / min(image.size)
  width, height = (round(side * scale) for side in image.size)
  _draft(image, 2 * scale)
  return _resize(image, (width, height), bicubic=bicubic)


def center_crop(image: Image.Image, rng: Rng, *, size: int) -> Image.Image:
  """Cuts out the central `size` x `size` pixels."""
  room_x, room_y = _room(image, size)
  return _crop(image, room_x // 2, room_y // 2, size)


def random_crop(image: Image.Image, rng: Rng, *, size: int) -> Image.Image:
  """Cuts out `size` x `size` pixels at a uniformly random place."""
  room_x, room_y = _room(image, size)
  return _crop(image, int(rng.integers(room_x + 1)), int(rng.integers(room_y + 1)), size)


def random_flip(image: Image.Image, rng: Rng) -> Image.Image:
  """Mirrors left and right with probability 1/2."""
  return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def inception_crop(
  image: Image.Image,
  rng: Rng,
  *,
  size: int,
  area: tuple = (0.08, 1.0),
  ratio: tuple = (3 / 4, 4 / 3),
) -> Image.Image:
  """Cuts out a random box and resizes it to `size` x `size`.

  Szegedy et al. 2015, "Going Deeper with Convolutions", section 6.

  Args:
    image: the image.
    rng: what the box is drawn from.
    size: the side of the result in pixels.
    area: the range of the box's share of the image's area, which is uniform.
    ratio: the range of its width / height, whose logarithm is uniform.
  """
  full = image.size
  left, top, width, height = _inception_box(*full, rng, area, ratio)
  _draft(image, size / min(width, height))
  shrunk = image.size[0] / full[0], image.size[1] / full[1]
  box = (left, top, left + width, top + height)
  return _resize(image, (size, size), tuple(a * shrunk[i % 2] for i, a in enumerate(box)))


def jpeg(image: Image.Image, rng: Rng, *, quality: int) -> Image.Image:
  """Encodes as JPEG and decodes again, chroma at half resolution: what a re-encoding costs."""
  if not 1 <= quality <= 95:
    raise ValueError(f'jpeg(quality={quality}): from 1 to 95')
  data = io.BytesIO()
  image.convert('L' if image.mode == 'L' else 'RGB').save(data, 'JPEG', quality=quality)
  return Image.open(data)


FIXED: dict[str, Callable[..., Any]] = {
  'center_crop': center_crop,
  'jpeg': jpeg,
  'resize': resize,
  'resize_shorter': resize_shorter,
}
RANDOM: dict[str, Callable[..., Any]] = {
  'inception_crop': inception_crop,
  'random_crop': random_crop,
  'random_flip': random_flip,
}


def _inception_box(
  full_width: int, full_height: int, rng: Rng, area: tuple, ratio: tuple
) -> tuple[int, int, int, int]:
  """Returns left, top, width and height; the largest central square if ten draws do not fit."""
  for _ in range(10):
    share = rng.uniform(*area) * full_width * full_height
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    width, height = round(math.sqrt(share * aspect)), round(math.sqrt(share / aspect))
    if 0 < width <= full_width and 0 < height <= full_height:
      left = int(rng.integers(full_width - width + 1))
      return left, int(rng.integers(full_height - height + 1)), width, height
  side = min(full_width, full_height)
  return (full_width - side) // 2, (full_height - side) // 2, side, side


def _draft(image: Image.Image, scale: float) -> None:
  """Makes the decoder of a JPEG shrink it by a power of two, to no less than `scale`."""
  if scale < 1:
    image.draft(None, (math.ceil(image.size[0] * scale), math.ceil(image.size[1] * scale)))


def _resize(
  image: Image.Image, size: tuple[int, int], box: tuple | None = None, *, bicubic: bool = False
) -> Image.Image:
  """Resizes with antialiasing."""
  if image.mode not in modes.CHANNELS.values():  # CMYK and the like cannot be averaged
    image = image.convert('RGB')
  resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
  return image.resize(size, resample, box=box)


def _crop(image: Image.Image, left: int, top: int, size: int) -> Image.Image:
  return image.crop((left, top, left + size, top + size))


def _room(image: Image.Image, size: int) -> tuple[int, int]:
  """Returns how far a crop of `size` can move in x and y."""
  width, height = image.size
  if size > min(width, height):
    raise ValueError(f'a crop of {size} from {width} x {height} pixels: resize_shorter() it first')
  return width - size, height - size
