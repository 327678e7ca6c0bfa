"""Image files of any mode as 8 bits a channel.

  16 bits                the high byte; PGM is scaled to 16 bits by its largest value first
  32-bit integers        as 16 bits; refused below 0, above 65535, or if all would fit into 8 bits
  floats                 255 x, rounded; refused outside of [0, 1]
  1 bit                  0 and 255
  palettes               their colours
  CMYK                   R = 255 (1 - C) (1 - K), likewise G and B; inverted in JPEG, as by Adobe
  alpha                  composed over white, unless the set has 4 channels
  EXIF orientation       applied, so that images are as viewers show them
  several frames, pages  the first
  ICC profiles           not applied, as is the custom of the field

A file that is refused is named in the error; of the rest `remarks` says what a user may not expect.
"""

import functools
import io
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data import checks

CHANNELS = {1: 'L', 3: 'RGB', 4: 'RGBA'}  # -> PIL's name

# Pixels that PIL decodes by itself: EPS would start another program, and PDF and HDF5 are none.
# They are tried in this order.
FORMATS = (
  *('JPEG', 'PNG', 'WEBP', 'GIF', 'TIFF', 'BMP', 'DIB', 'PPM', 'AVIF', 'JPEG2000', 'PCX', 'QOI'),
  *('SGI', 'TGA'),
)

ORIENTATION = 0x0112  # the tag of EXIF; 1 is upright

# PIL's warnings do not name the file. They are about damaged metadata, and about many pixels, of
# which it refuses twice as many in an error.
warnings.filterwarnings('ignore', module=r'PIL\.')


@functools.cache
def extensions() -> tuple[str, ...]:
  """Returns the ends of the names of image files, in lower case."""
  return tuple(e for e, form in Image.registered_extensions().items() if form in _formats())


def open_image(data: bytes) -> Image.Image:
  """Returns an encoded image, whose pixels are decoded when they are asked for.

  Raises:
    Exception: nearly any of Python's, on a damaged file.
  """
  try:
    image = Image.open(io.BytesIO(data), formats=_formats())
  except UnidentifiedImageError:  # its message shows an address in memory
    raise ValueError(f'cannot identify image file; formats: {", ".join(_formats())}') from None
  if image.format != 'PNG':
    return image
  try:
    image.verify()  # the checksums of its chunks, at which decoding does not look
  except Exception as error:
    raise ValueError(f'damaged image: {checks.reason(error)}') from error
  return Image.open(io.BytesIO(data), formats=['PNG'])


@functools.cache
def _formats() -> list[str]:
  """Returns those of FORMATS with which PIL was built."""
  Image.init()
  return [form for form in FORMATS if form in Image.OPEN]


def is_grey(image: Image.Image) -> bool:
  """Tells whether an image's mode has no colours."""
  return image.mode[:1] in ('1', 'L', 'I', 'F') and image.mode != 'LAB'


def remarks(image: Image.Image, channels: int) -> Iterator[str]:
  """Yields what becomes of an image in a set of C channels that its user may not expect."""
  if image.mode in ('I', 'F') or ';16' in str(
    getattr(image, 'tile', '')
  ):  # PIL cuts 16 bits of RGB by itself
    yield 'of more than 8 bits a channel, of which 8 are kept'
  if getattr(image, 'is_animated', False):
    yield 'several frames or pages, of which the first is taken'
  if is_grey(image) and channels != 1:
    yield 'grey among colour images, taken as RGB'
  if not is_grey(image) and channels == 1:
    yield 'in colour among grey images, taken as grey'
  if channels != 4 and is_transparent(image):
    yield 'transparent, composed over white'


def flatten(image: Image.Image, channels: int) -> Image.Image:
  """Returns an image upright, in 8 bits, and without alpha unless there are 4 channels.

  A JPEG that needs none of this stays undecoded, so that its decoder may still shrink it.

  Raises:
    ValueError: on integers or floats of an unknown range.
  """
  image = _upright(image)
  if image.mode in ('I', 'F') or image.mode.startswith('I;16'):
    image = _from_numbers(image)
  if image.has_transparency_data:
    image = image.convert('RGBA')
    if channels != 4:
      image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
  elif image.mode in ('1', 'P'):
    image = image.convert('L' if image.mode == '1' else 'RGB')
  return image


def _from_numbers(image: Image.Image) -> Image.Image:
  """Returns grey levels of 16-bit or 32-bit integers, or of floats, as 8 bits."""
  values = np.asarray(image)
  low, high = values.min(), values.max()
  if image.mode == 'F':
    if not (low >= 0 and high <= 1):  # also if one is NaN
      raise ValueError(f'floats from {low:g} to {high:g}; must be in [0, 1], or save it as 8 bits')
    return Image.fromarray(np.round(255 * values).astype(np.uint8))
  # Black is black in any range, and PGM and PNG say what theirs is.
  is_known = low == high == 0 or (low >= 0 and 256 <= high < 1 << 16)
  if image.format == 'TIFF' and image.mode == 'I' and not is_known:
    raise ValueError(
      f'32-bit integers from {low} to {high} have no known range; save it as 8 or 16 bits'
    )
  grey = Image.fromarray((values >> 8).astype(np.uint8))
  if 'transparency' in image.info:  # the one value of a PNG that is transparent
    grey.putalpha(Image.fromarray(values != image.info['transparency']).convert('L'))
  return grey


def is_transparent(image: Image.Image) -> bool:
  """Tells whether a part of an image is transparent; decodes it if that is possible."""
  if not image.has_transparency_data:
    return False
  if image.mode.startswith('I;16'):
    image = _from_numbers(image)
  return bool((np.asarray(image.convert('RGBA'))[..., 3] < 255).any())


def _upright(image: Image.Image) -> Image.Image:
  """Returns an image turned as its EXIF data say, which a TIFF is when it is decoded."""
  try:
    turned = image.format != 'TIFF' and image.getexif().get(ORIENTATION, 1) != 1
  except Exception:  # PIL raises nearly anything on EXIF data that are damaged, and say nothing
    return image
  return ImageOps.exif_transpose(image) if turned else image
