"""Modes of image files: each becomes 8 bits a channel by a rule, or is refused with its range."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.images import decode, modes

GREYS = np.array([[0, 1, 255, 256, 700, 32768, 65535]])


def encode(image: Image.Image, form: str = 'PNG', **options) -> bytes:
  out = io.BytesIO()
  image.save(out, form, **options)
  return out.getvalue()


def of(values, dtype, form: str, **options) -> bytes:
  return encode(Image.fromarray(np.array(values, dtype)), form, **options)


def pixels(data: bytes, channels: int = 3, spec: str = '') -> list:
  out = decode.decode(data, decode.parse(spec, 'spec'), channels)
  return out.reshape(-1, channels).tolist() if channels > 1 else out.ravel().tolist()


def remarks(data: bytes, channels: int = 3) -> list[str]:
  return list(modes.remarks(modes.open_image(data), channels))


def png(
  *chunks: tuple[bytes, bytes], size: int = 1, pixel: bytes = b'\0\7', kind: int = 0, depth: int = 8
) -> bytes:
  """A PNG that has the data of one pixel, and other chunks; kind: 0 is grey, 2 RGB."""

  def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

  head = chunk(b'IHDR', struct.pack('>IIBBBBB', size, size, depth, kind, 0, 0, 0))
  body = b''.join(chunk(*each) for each in chunks) + chunk(b'IDAT', zlib.compress(pixel))
  return b'\x89PNG\r\n\x1a\n' + head + body + chunk(b'IEND', b'')


# --- depth


@pytest.mark.parametrize(
  'data',
  [
    of(GREYS, np.uint16, 'PNG'),
    of(GREYS, np.uint16, 'TIFF'),
    of(GREYS, '>u2', 'TIFF'),
    of(GREYS, np.uint16, 'PPM'),
    of(GREYS, np.int32, 'TIFF'),
  ],
  ids=['png', 'tiff', 'tiff big-endian', 'pgm', 'tiff int32'],
)
@pytest.mark.parametrize('spec', ['', 'center_crop(1)'])
def test_of_16_bits_the_high_byte_is_taken(data, spec):
  expected = [0, 0, 0, 1, 2, 128, 255]
  assert pixels(data, 1, spec) == (expected if not spec else expected[3:4])
  assert remarks(data, 1) == ['of more than 8 bits a channel, of which 8 are kept']


def test_of_16_bits_of_colour_too():
  data = png(size=1, pixel=b'\0\2\xff\0\xff\xff\0', kind=2, depth=16)
  assert pixels(data) == [[2, 0, 255]]
  assert remarks(data) == ['of more than 8 bits a channel, of which 8 are kept']


def test_a_pgm_is_scaled_by_its_largest_value():
  assert pixels(b'P2 3 1 1000 0 500 1000', 1) == [0, 128, 255]
  assert pixels(b'P2 2 1 65535 3 255', 1) == [0, 0]  # dark, and said to be of 16 bits


def test_floats_are_of_0_to_1():
  assert pixels(of([[0, 0.5, 1, 0.25]], np.float32, 'TIFF'), 1) == [0, 128, 255, 64]


@pytest.mark.parametrize(
  ('values', 'dtype', 'message'),
  [
    ([[0, 255]], np.int32, '32-bit integers from 0 to 255 have no known range'),
    ([[-1, 5000]], np.int32, 'from -1 to 5000'),
    ([[0, 65536]], np.int32, 'from 0 to 65536 have no known range; save it as 8 or 16 bits'),
    ([[0, 255]], np.float32, r'floats from 0 to 255; must be in \[0, 1\]'),
    ([[-0.5, 1]], np.float32, 'floats from -0.5 to 1'),
    ([[0, np.nan]], np.float32, 'floats from nan'),
    ([[0, np.inf]], np.float32, 'floats from 0 to inf'),
  ],
)
def test_numbers_of_no_known_range_are_refused(values, dtype, message):
  with pytest.raises(ValueError, match=message):
    pixels(of(values, dtype, 'TIFF'), 1)


def test_one_bit_is_black_and_white():
  data = encode(Image.fromarray(np.array([[True, False]])))
  assert pixels(data, 1) == [255, 0]
  assert pixels(data) == [[255] * 3, [0] * 3]


# --- colours


RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


def palette() -> Image.Image:
  image = Image.new('P', (3, 1))
  image.putdata([0, 1, 2])
  image.putpalette([*RED, *GREEN, *BLUE])
  return image


@pytest.mark.parametrize(('form', 'options'), [('PNG', {}), ('GIF', {}), ('TIFF', {}), ('BMP', {})])
def test_palettes_have_their_colours(form, options):
  assert pixels(encode(palette(), form, **options)) == [RED, GREEN, BLUE]


def test_cmyk_is_ink():
  cyan = Image.new('CMYK', (8, 8), (255, 0, 0, 0))
  for form in ('TIFF', 'JPEG'):  # JPEGs are written inverted, with the mark of Adobe
    assert pixels(encode(cyan, form))[0] == [0, 255, 255]
    assert pixels(encode(cyan, form), spec='resize(4)')[0] == [0, 255, 255]


# --- transparency


def test_alpha_is_composed_over_white():
  image = Image.fromarray(np.array([[[255, 0, 0, 0], [0, 255, 0, 51], [0, 0, 255, 255]]], np.uint8))
  for form, options in (('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': True, 'exact': True})):
    data = encode(image, form, **options)
    assert pixels(data) == [[255] * 3, [204, 255, 204], BLUE]
    assert remarks(data) == ['transparent, composed over white']
  assert pixels(encode(image), 4) == [[*RED, 0], [*GREEN, 51], [*BLUE, 255]]
  assert remarks(encode(image), 4) == []


@pytest.mark.parametrize(
  ('data', 'channels', 'expected'),
  [
    (encode(palette(), transparency=1), 3, [RED, [255] * 3, BLUE]),
    (encode(palette(), 'GIF', transparency=1), 3, [RED, [255] * 3, BLUE]),
    (of([[7, 8]], np.uint8, 'PNG', transparency=7), 1, [255, 8]),
    (
      of([[[1, 2, 3], [4, 5, 6]]], np.uint8, 'PNG', transparency=(1, 2, 3)),
      3,
      [[255] * 3, [4, 5, 6]],
    ),
    (of([[700, 800]], np.uint16, 'PNG', transparency=700), 1, [255, 3]),
  ],
  ids=['palette', 'gif', 'grey', 'rgb', '16 bits'],
)
def test_a_transparent_colour_is_white(data, channels, expected):
  assert pixels(data, channels) == expected
  assert 'transparent, composed over white' in remarks(data, channels)


def test_opaque_alpha_changes_nothing_and_is_not_told():
  data = encode(Image.new('RGBA', (2, 1), (1, 2, 3, 255)))
  assert pixels(data) == [[1, 2, 3]] * 2 and remarks(data) == []


def test_hidden_colours_do_not_bleed_when_resized():
  image = Image.new('RGBA', (8, 8), (255, 0, 0, 0))
  assert pixels(encode(image), spec='resize(4)') == [[255] * 3] * 16


# --- orientation and frames


@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'WEBP', 'JPEG'])
@pytest.mark.parametrize(('turn', 'corner'), [(1, (0, 0)), (3, (3, 5)), (6, (0, 3)), (8, (5, 0))])
def test_exif_orientation_is_applied(form, turn, corner):
  image = np.zeros((4, 6), np.uint8)
  image[0, 0] = 255
  exif = Image.Exif()
  exif[modes.ORIENTATION] = turn
  options = {'WEBP': {'lossless': True}, 'JPEG': {'quality': 100}}.get(form, {})
  out = decode.decode(of(image, np.uint8, form, exif=exif, **options), [], 1)[..., 0]
  assert np.unravel_index(out.argmax(), out.shape) == corner
  assert out.shape == ((4, 6) if turn in (1, 3) else (6, 4))


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'])
def test_every_mode_is_turned(mode):
  exif = Image.Exif()
  exif[modes.ORIENTATION] = 6
  image = (
    Image.fromarray(np.zeros((4, 6), np.uint16)) if mode == 'I;16' else Image.new(mode, (6, 4))
  )
  assert decode.decode(encode(image, exif=exif), [], 3).shape == (6, 4, 3)


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')
def test_exif_data_that_are_damaged_say_nothing():
  data = of(np.full((8, 8), 9), np.uint8, 'JPEG', exif=b'Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12')
  assert decode.decode(data, [], 1).shape == (8, 8, 1)


@pytest.mark.parametrize('form', ['GIF', 'TIFF', 'PNG', 'WEBP'])
def test_of_several_frames_the_first_is_taken_and_told(form):
  first, second = (Image.new('RGB', (2, 2), color) for color in ('white', 'black'))
  options = {'lossless': True} if form == 'WEBP' else {}
  data = encode(first, form, save_all=True, append_images=[second], **options)
  assert pixels(data) == [[255] * 3] * 4
  assert remarks(data) == ['several frames or pages, of which the first is taken']
  assert remarks(encode(first, form)) == []


# --- what is damaged or dangerous


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (png((b'zTXt', b'a\0\0' + zlib.compress(bytes(80 << 20)))), 'too large'),
    (png((b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + zlib.compress(bytes(80 << 20)))), 'too large'),
    (png((b'iCCP', b'a\0\0' + zlib.compress(bytes(80 << 20)))), 'too large'),
    (png(size=1 << 16), 'exceeds limit'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'cannot identify image file; formats:'),
    (b'', 'cannot identify'),
    (b'text', 'cannot identify'),
  ],
  ids=['text', 'xmp', 'profile', 'size', 'postscript', 'empty', 'no image'],
)
def test_bombs_and_what_is_no_image_are_refused(data, message):
  with pytest.raises((ValueError, Image.DecompressionBombError), match=message):
    pixels(data, 1)


def test_no_bit_of_a_png_can_change_unnoticed():
  """PIL's decoder would take 137 of 2,000 such files for other pixels without a word."""
  ramp = np.broadcast_to(np.arange(0, 256, 8)[:, None], (32, 32))
  data, rng = of(ramp, np.uint8, 'PNG'), np.random.default_rng(0)
  for place in rng.integers(8 * len(data), size=300):
    damaged = bytearray(data)
    damaged[place // 8] ^= 1 << place % 8
    try:
      out = decode.decode(bytes(damaged), [], 1)
    except Exception:
      continue
    np.testing.assert_array_equal(out[..., 0], ramp)
