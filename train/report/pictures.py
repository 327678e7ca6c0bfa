"""What a run leaves to look at: what it drew; confusion matrix, samples, first-layer filters."""

import io

import numpy as np

from train.logging import samples as samples_lib
from train.report import boards
from train.report.figures import Html, element, listing, png, section
from train.report.results import Folder

TABLE_CLASSES = 20  # a confusion matrix of more classes is a picture
SAMPLES = 48
THUMBNAIL = 160  # pixels a side of a sample, at most
FILTERS = 128
SHOWN = ('.txt', '.png')  # of what tasks draw
TEXT = 4000  # characters of a sample
PIXELATED = 256  # pictures with shorter sides show their pixels


def drawn(runs: list[Folder], label: str) -> Html:
  """The newest text or picture that the first run of a group to have any drew in training."""
  found = (samples_lib.newest(run.path) for run in runs)
  step, files = next(filter(lambda newest: newest[1], found), (0, {}))
  parts = [drawing(name, contents) for name, contents in files.items() if name.endswith(SHOWN)]
  when = element('p', f'Drawn at step {step:,}, while training.', class_='soft')
  heading = f'Sample of {label}' if label else 'Sample'
  return section(heading, when, *parts) if parts else Html('')


def drawing(name: str, contents: bytes) -> Html:
  if name.endswith('.png'):
    return picture(name, contents)
  text = contents.decode('utf-8', 'replace')
  if name == boards.FILE and (game := boards.replay(text)):
    return game
  # A page may hold no control characters but these two.
  shown = ''.join(c if c.isprintable() or c in '\n\t' else '\ufffd' for c in text[:TEXT])
  return element('pre', shown + ' …' * (len(text) > TEXT), class_='text')


def picture(name: str, contents: bytes) -> Html:
  from PIL import Image  # not at the top: `import train.report.page` stays cheap

  try:
    pixels = np.asarray(Image.open(io.BytesIO(contents)).convert('RGBA'))
  except (OSError, SyntaxError, ValueError):  # what PIL raises
    return element('p', element('code', name), ' is damaged and left out.')
  small = max(pixels.shape[:2]) < PIXELATED
  return element('p', png(pixels, name, class_='drawn small' if small else 'drawn'))


def evaluation(runs: list[Folder], label: str) -> Html:
  """The mistakes of one group: confusion over its seeds, samples and filters of its first run."""
  done = [run for run in runs if run.evaluation]
  pictured = next((run for run in done if run.pixels), None)
  parts = [confusion(done)] if any('confusion' in run.evaluation for run in done) else []
  if pictured:
    parts += [samples(pictured), filters(pictured)]
  heading = f'Evaluation of {label}' if label else 'Evaluation'
  return section(heading, *parts) if parts else Html('')


def confusion(runs: list[Folder]) -> Html:
  """Rows the true class, columns the prediction, summed over the seeds."""
  found = [np.array(run.evaluation['confusion']) for run in runs if 'confusion' in run.evaluation]
  counts = sum(found[1:], found[0])
  classes = runs[0].evaluation.get('classes') or [str(i) for i in range(len(counts))]
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  # mistakes are few: their square root makes them visible
  shade = np.where(np.eye(len(counts), dtype=bool), shares**4, np.sqrt(shares))
  few = len(counts) <= TABLE_CLASSES
  picture = matrix(counts, shade, classes) if few else png(heat(shade), 'confusion', class_='heat')
  over = f', {len(found)} seeds together' if len(found) > 1 else ''
  total = f'{counts.sum():,} examples{over}; each row is a true class, each column a prediction.'
  left = element('div', element('p', total, class_='soft'), element('div', picture, class_='wide'))
  beside = element('div', left, mistakes(counts, classes), class_='beside')
  return element('h3', 'Confusion') + beside


def matrix(counts: np.ndarray, shade: np.ndarray, classes: list[str]) -> Html:
  """The table of counts int [K, K], shaded by `shade` in 0..1, with each row's error at its end."""
  long = 'long' if max(map(len, classes)) > 3 else None
  top = [element('th'), *(element('th', name, class_=long) for name in classes), element('th')]
  rows = []
  for i, name in enumerate(classes):
    cells = [
      cell(int(n), v, i == j) for j, (n, v) in enumerate(zip(counts[i], shade[i], strict=True))
    ]
    error = 1 - counts[i, i] / max(counts[i].sum(), 1)
    rate = element('td', f'{100 * error:.1f} %', class_='rate', title=f'error on {name}')
    rows.append(element('tr', element('th', name), *cells, rate))
  body = element('tbody', *rows)
  return element('table', element('thead', element('tr', *top)), body, class_='confusion')


def cell(count: int, shade: float, hit: bool) -> Html:
  kind = ' '.join(['hit'] * hit + ['deep'] * bool(shade > 0.55) + ['none'] * (count == 0))
  style = f'--v:{shade:.2f}' if count else None
  return element('td', count or '·', class_=kind or None, style=style)


def mistakes(counts: np.ndarray, classes: list[str], most: int = 8) -> Html:
  """The pairs that are confused most often."""
  wrong = counts * (1 - np.eye(len(counts), dtype=int))
  order = [np.unravel_index(k, wrong.shape) for k in np.argsort(-wrong, axis=None)[:most]]
  rows = [(classes[i], classes[j], wrong[i, j]) for i, j in order if wrong[i, j]]
  if not rows:
    return element('p', 'No mistakes.')
  return element('div', listing(('True', 'Taken for', 'Times'), rows, numeric=(2,)))


def samples(run: Folder) -> Html:
  """Test images with the prediction, its probability, and the truth where it was missed."""
  if not {'images', 'labels', 'predictions'} <= run.pixels.keys():
    return Html('')
  images, labels, guesses = (run.pixels[k] for k in ('images', 'labels', 'predictions'))
  chances = run.pixels.get('probabilities', np.full(len(images), np.nan))
  classes = run.evaluation.get('classes') or []
  tiles = [
    sample(image, named(classes, true), named(classes, guess), float(chance))
    for image, true, guess, chance in zip(images, labels, guesses, chances, strict=True)
  ][:SAMPLES]
  words = 'The prediction with its probability; ✗ marks a mistake, with the truth below it.'
  heading = element('h3', 'Samples of the test set') + element('p', words, class_='soft')
  return heading + element('div', *tiles, class_='samples')


def named(classes: list[str], index: int) -> str:
  return str(classes[index]) if index < len(classes) else str(index)


def sample(image: np.ndarray, true: str, guess: str, chance: float) -> Html:
  if image.dtype != np.uint8:  # floats in 0..1
    image = np.clip(np.round(255 * image), 0, 255).astype(np.uint8)
  right = true == guess
  small = 'small' if max(image.shape[:2]) < 80 else None
  sure = '' if np.isnan(chance) else element('small', f' {100 * chance:.0f}\u00a0%')
  truth = '' if right else element('div', f'is {true}')
  caption = element('figcaption', element('b', ('✓ ' if right else '✗ ') + guess), sure, truth)
  picture = png(image, f'{true}, predicted {guess}', THUMBNAIL, class_=small)
  return element('figure', picture, caption, class_=None if right else 'miss')


def filters(run: Folder) -> Html:
  """The first layer's kernels; grey is zero."""
  if 'filters' not in run.pixels:
    return Html('')
  tiles = filter_tiles(run.pixels['filters'])
  size = 64 if len(tiles) <= 32 else 44  # pixels on the page
  drawn = [png(t, 'filter', class_='small', width=size, height=size) for t in tiles[:FILTERS]]
  more = f', the first {FILTERS}' if len(tiles) > FILTERS else ''
  heading = f'First layer, {len(tiles)} filters of {tiles.shape[1]} × {tiles.shape[2]}{more}'
  return element('h3', heading) + element('div', *drawn, class_='filters')


def filter_tiles(filters: np.ndarray) -> np.ndarray:
  """Kernels float [h, w, c, n] -> uint8 [n, h, w, 1 or 3]; grey is zero, each filter on its own
  range. Kernels of three channels are shown in colour, of any other number by their mean."""
  tiles = np.moveaxis(np.asarray(filters, np.float32), -1, 0)
  if tiles.shape[-1] != 3:
    tiles = tiles.mean(-1, keepdims=True)
  largest = np.abs(tiles).max(axis=(1, 2, 3), keepdims=True)
  return np.round(127.5 + 127.5 * tiles / np.maximum(largest, 1e-12)).astype(np.uint8)


def heat(shares: np.ndarray) -> np.ndarray:
  """[K, K] in 0..1 -> RGBA uint8: blue on the diagonal, red off it, clear where nothing is, so that
  it lies on a light page and on a dark one."""
  right = np.eye(len(shares), dtype=bool)[..., None]
  colour = np.where(right, (37, 99, 235), (225, 60, 40))
  return np.concatenate([colour, 255 * shares[..., None]], -1).astype(np.uint8)
