"""What a run leaves to look at: what it drew; confusion matrix, samples, first-layer filters.

`templates/pictures.html` shows it, each picture as a PNG inside the page.
"""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from train.logging import samples as samples_lib
from train.report import boards
from train.report.folder import Folder

TABLE_CLASSES = 20  # a confusion matrix of more classes is a picture
MISTAKES = 8  # pairs of classes listed beside it
SAMPLES = 48
THUMBNAIL = 160  # pixels a side of a sample, at most
FILTERS = 128
GRID = 'grid.png'  # the picture that is also shown of earlier steps
EARLIER, EARLIER_SIDE = 5, 240  # of them, and their pixels a side
TEXT = 4000  # characters of a text that a task drew
MOVING = 4_000_000  # bytes of a moving picture, at most, as it becomes part of the page


class Picture(NamedTuple):
  """A PNG as a data URI, what it is, and whether its pixels are to be seen as squares."""

  source: str
  alt: str
  small: bool


class Drawing(NamedTuple):
  """A file that a task drew while it trained; without any content if it is damaged."""

  name: str
  text: str | None = None
  picture: Picture | None = None
  game: boards.BoardSequence | None = None


class Confusion(NamedTuple):
  """Counts by true class and prediction, summed over seeds; a `picture` if the classes are many.

  A row is (class, [(count, shade in 0..1)], error), the error None of a class without examples.
  mistakes: (true, predicted, count) of the most frequent of `kinds`. others: seeds with other
  classes, which are left out.
  """

  total: int
  seeds: int
  others: int
  classes: list[str]
  rows: list[tuple[str, list[tuple[int, float]], float | None]]
  picture: Picture | None
  mistakes: list[tuple[str, str, int]]
  kinds: int


class Sample(NamedTuple):
  """A test image; chance is the predicted class's probability, None if unknown."""

  picture: Picture
  true: str
  guess: str
  chance: float | None


def png(pixels: np.ndarray, alt: str, largest: int = 1024, small: int = 80) -> Picture:
  """Returns uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] as a picture.

  It is made smaller if a side is longer than `largest`; pixels of one with sides shorter than
  `small` are drawn as squares.
  """
  file = io.BytesIO()
  flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
  image = Image.fromarray(np.ascontiguousarray(flat, np.uint8))
  image.thumbnail((largest, largest))
  image.save(file, 'PNG', optimize=True)
  return Picture(_uri(file.getvalue()), alt, max(pixels.shape[:2]) < small)


def _uri(contents: bytes) -> str:
  return 'data:image/png;base64,' + base64.b64encode(contents).decode()


class Drawn(NamedTuple):
  """The newest files that a run drew, at which step, and the names of those that no page shows.

  earlier: step and grid of some steps before, smaller.
  """

  path: str
  step: int
  drawings: list[Drawing]
  others: list[str]
  earlier: list[tuple[int, Picture]]


def drawn(runs: list[Folder]) -> Drawn | None:
  """Returns the newest texts and pictures of the first run that drew any; None if none did."""
  for run in runs:
    step, files = samples_lib.newest(run.path)
    if files:
      shown = [name for name in files if name.endswith(('.txt', '.png'))]
      others = [name for name in files if name not in shown]
      drawings = [drawing(name, files[name]) for name in shown]
      return Drawn(run.path, step, drawings, others, earlier(run))
  return None


def earlier(run: Folder) -> list[tuple[int, Picture]]:
  """Returns the grids of at most EARLIER steps before the newest: how images came to be."""
  files = samples_lib.earlier(run.path, GRID, EARLIER)
  found = [(step, drawing(GRID, contents, EARLIER_SIDE)) for step, contents in files.items()]
  return [(step, each.picture) for step, each in found if each.picture]


def drawing(name: str, contents: bytes, largest: int = 1024) -> Drawing:
  """Returns what is shown of a text or a PNG: no side exceeds `largest`, unless it moves."""
  if name.endswith('.png'):
    try:
      image = Image.open(io.BytesIO(contents))
      pixels = np.asarray(image.convert('RGBA'))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what PIL raises
      return Drawing(name)
    if getattr(image, 'is_animated', False) and len(contents) <= MOVING:
      return Drawing(name, picture=Picture(_uri(contents), name, True))
    return Drawing(name, picture=png(pixels, name, largest, small=min(256, largest)))
  text = contents.decode('utf-8', 'replace')
  if name == boards.FILE and (game := boards.replay(text)):
    return Drawing(name, game=game)
  # A page may hold no control characters but these two.
  shown = ''.join(c if c.isprintable() or c in '\n\t' else '\ufffd' for c in text[:TEXT])
  return Drawing(name, shown + ' …' * (len(text) > TEXT))


def confusion(runs: list[Folder]) -> Confusion | None:
  """Returns the confusion matrix summed over seeds, None if no run was evaluated with one.

  An ensemble is no seed: its matrix is shown where it stands alone.
  """
  own = [run.evaluation for run in runs if len(runs) == 1 or run.members == 1]
  known = [evaluation for evaluation in own if 'confusion' in evaluation]
  if not known:
    return None
  found = [x for x in known if _classes(x) == _classes(known[0])]
  counts = np.sum([evaluation['confusion'] for evaluation in found], axis=0)
  classes = _classes(known[0])
  right = np.eye(len(counts), dtype=bool)
  shares = counts / np.maximum(counts.sum(1), 1)[:, None]
  # Mistakes are few: their square root makes them visible.
  shade = np.where(right, shares**4, np.sqrt(shares))
  errors = [1 - x if n else None for x, n in zip(shares.diagonal(), counts.sum(1), strict=True)]
  cells = [
    list(zip(*row, strict=True)) for row in zip(counts.tolist(), shade.tolist(), strict=True)
  ]
  wrong = np.where(right, 0, counts)
  order = np.argsort(-wrong, axis=None, kind='stable')[:MISTAKES]
  pairs = [divmod(i, len(counts)) for i in order.tolist() if wrong.flat[i]]
  return Confusion(
    total=int(counts.sum()),
    seeds=len(found),
    others=len(known) - len(found),
    classes=classes,
    rows=list(zip(classes, cells, errors, strict=True)),
    picture=png(heat(shade), 'confusion') if len(counts) > TABLE_CLASSES else None,
    kinds=int(np.count_nonzero(wrong)),
    mistakes=[(classes[i], classes[j], int(wrong[i, j])) for i, j in pairs],
  )


def _classes(evaluation: dict) -> list[str]:
  return list(map(str, evaluation.get('classes') or range(len(evaluation['confusion']))))


def heat(shares: np.ndarray) -> np.ndarray:
  """Returns [K, K] in 0..1 as RGBA uint8 [K, K, 4]: blue on the diagonal, red off it."""
  colour = np.where(np.eye(len(shares), dtype=bool)[..., None], (37, 99, 235), (225, 60, 40))
  return np.concatenate([colour, 255 * shares[..., None]], -1).astype(np.uint8)


def samples(run: Folder) -> list[Sample]:
  """Returns test images with predictions; an empty list if eval_figures.npz has none."""
  if not {'images', 'labels', 'predictions'} <= run.pixels.keys():
    return []
  images, labels, guesses = (run.pixels[key] for key in ('images', 'labels', 'predictions'))
  if images.dtype != np.uint8:  # floats in 0..1
    images = np.clip(np.round(255 * images), 0, 255).astype(np.uint8)
  chances = run.pixels.get('probabilities', np.full(len(images), np.nan)).tolist()
  classes = dict(enumerate(map(str, run.evaluation.get('classes') or [])))
  found = []
  for image, label, prediction, chance in zip(images, labels, guesses, chances, strict=True):
    true, guess = (classes.get(int(i), str(i)) for i in (label, prediction))
    picture = png(image, f'{true}, predicted {guess}', THUMBNAIL)
    found.append(Sample(picture, true, guess, None if np.isnan(chance) else chance))
  return found[:SAMPLES]


def filters(run: Folder) -> list[Picture]:
  """Returns the first FILTERS kernels of the first layer."""
  return [png(tile, 'filter') for tile in filter_tiles(run.pixels['filters'])[:FILTERS]]


def filter_tiles(filters: np.ndarray) -> np.ndarray:
  """Returns kernels float [h, w, c, n] as uint8 [n, h, w, 1 or 3], each on its own range.

  Grey is 0. Kernels of three channels are shown in colour, of any other number by their mean.
  """
  tiles = np.moveaxis(np.asarray(filters, np.float32), -1, 0)
  if tiles.shape[-1] != 3:
    tiles = tiles.mean(-1, keepdims=True)
  largest = np.abs(tiles).max(axis=(1, 2, 3), keepdims=True)
  return np.round(127.5 + 127.5 * tiles / np.maximum(largest, 1e-12)).astype(np.uint8)
