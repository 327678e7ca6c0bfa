"""Pictures of attention: which pieces of the source each piece of the target looks at."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL, FONT = 18, 13  # pixels
LONGEST_LABEL = 14  # characters

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def labelled(weights: np.ndarray, source: Sequence[str], target: Sequence[str]) -> bytes:
  """Returns a PNG of weights `[T, S]` in [0, 1]: the source above, the target at the left.

  White is 1, as in figure 3 of Bahdanau et al. 2015.
  """
  font = ImageFont.load_default(FONT)
  above, left = (_names(labels, font) for labels in (source, target))
  space = max(image.width for image in [*above, *left]) + 4
  width, height = space + CELL * len(source), space + CELL * len(target)
  picture = Image.new('L', (width + 4, height + 4), 255)
  cells = Image.fromarray(_grey(weights[: len(target), : len(source)]))
  picture.paste(
    cells.resize((width - space, height - space), Image.Resampling.NEAREST), (space,) * 2
  )
  for i, image in enumerate(above):
    turned = image.rotate(90, expand=True)
    picture.paste(turned, (space + CELL * i, space - 2 - turned.height))
  for i, image in enumerate(left):
    picture.paste(image, (space - 2 - image.width, space + CELL * i))
  return _png(picture)


def every_head(maps: np.ndarray) -> bytes:
  """Returns a PNG of maps `[layers, heads, T, S]`: a layer a row, a head a column."""
  layers, heads, T, S = maps.shape
  framed = np.full((layers, heads, T + 1, S + 1), 128, np.uint8)
  framed[:, :, :T, :S] = _grey(maps)
  image = Image.fromarray(framed.swapaxes(1, 2).reshape(layers * (T + 1), heads * (S + 1)))
  scale = max(1, 800 // image.width)
  return _png(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST))


def _names(labels: Sequence[str], font: Font) -> list[Image.Image]:
  """Returns each label as a line of text, a cell high."""
  found = []
  for label in labels:
    # A space in front says that a word begins here.
    text = label.replace(' ', '·')[:LONGEST_LABEL]
    image = Image.new('L', (max(1, int(font.getlength(text)) + 1), CELL), 255)
    ImageDraw.Draw(image).text((0, 1), text, font=font, fill=0)
    found.append(image)
  return found


def _grey(weights: np.ndarray) -> np.ndarray:
  return np.round(255 * np.clip(weights, 0, 1)).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
  file = io.BytesIO()
  image.save(file, 'PNG', optimize=True)
  return file.getvalue()
