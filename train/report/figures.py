"""The pieces of a report page: markup, inline SVG charts, PNG data URIs.

Colours are CSS variables of the page (report.css), so that a chart follows light, dark and print.
"""

import base64
import dataclasses
import html
import io
import itertools
import math

import numpy as np

WIDTH, HEIGHT = 460, 240  # of a chart, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 26  # its margins
POINTS = 300  # a line is thinned to at most so many
STOPS = 60  # places where a chart answers to the pointer


class Html(str):
  """Markup: text that must not be escaped again."""

  def __add__(self, other: str) -> 'Html':
    return join((self, other))


def element(name: str, /, *content: object, **attributes: object) -> Html:
  """<name attribute="...">content</name>. Text is escaped and Html is not; attributes that are None
  are left out; `class_` and `stroke_width` become `class` and `stroke-width`."""
  named = {key.rstrip('_').replace('_', '-'): value for key, value in attributes.items()}
  words = [f' {k}="{html.escape(str(v))}"' for k, v in named.items() if v is not None]
  inside = ''.join(c if isinstance(c, Html) else html.escape(str(c)) for c in content)
  end = '' if name in ('img', 'meta') else f'</{name}>'
  return Html(f'<{name}{"".join(words)}>{inside}{end}')


def join(pieces) -> Html:
  return Html(''.join(pieces))


def typed(command: str) -> Html:
  """A command to copy, that breaks its line between words only."""
  return element('code', join(element('span', word) + ' ' for word in command.split(' ')))


def png(pixels: np.ndarray, alt: str, largest: int = 1024, **attributes: object) -> Html:
  """<img> of uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] with the PNG inside it, made smaller
  if a side is longer than `largest`."""
  from PIL import Image  # not at the top: `import train.report.page` stays cheap

  buffer = io.BytesIO()
  flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
  image = Image.fromarray(np.ascontiguousarray(flat, np.uint8))
  image.thumbnail((largest, largest))
  image.save(buffer, 'PNG', optimize=True)
  source = 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()
  return element('img', src=source, alt=alt, **attributes)


def section(heading: str, *content: object) -> Html:
  return element('section', element('h2', heading), *content)


def listing(columns, rows, numeric: tuple[int, ...] = (), row_class: str | None = None) -> Html:
  """A table: `columns` names, `rows` of as many cells; `numeric` columns are set flush right."""
  kind = ['number' if i in numeric else None for i in range(len(columns))]
  top = element('tr', *(element('th', c, class_=k) for c, k in zip(columns, kind, strict=True)))
  lines = [
    element(
      'tr', *(element('td', c, class_=k) for c, k in zip(row, kind, strict=True)), class_=row_class
    )
    for row in rows
  ]
  made = element('table', element('thead', top), element('tbody', *lines), class_='list')
  return element('div', made, class_='wide')


# --- charts --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Line:
  """One curve: steps and values of shape [N], colour a number of the page's palette."""

  name: str
  steps: np.ndarray
  values: np.ndarray
  colour: int = 0
  dashed: bool = False
  faint: bool = False  # a single seed behind the mean: no legend, no answer to the pointer
  aside: bool = False  # as faint, but as strong as the others
  marks: bool = False  # a dot at each of its points


@dataclasses.dataclass(frozen=True)
class Scale:
  """Maps values in [low, high] to positions between `start` and `stop`, in SVG units."""

  low: float
  high: float
  start: float
  stop: float
  log: bool = False

  def __call__(self, value: float) -> float:
    low, high = self.low, self.high
    if self.log:  # zero has no logarithm: it lies on the edge
      low, high, value = math.log(low), math.log(high), math.log(max(value, low))
    share = (value - low) / (high - low) if high > low else 0.5
    return round(self.start + share * (self.stop - self.start), 1)

  def ticks(self) -> list[float]:
    return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
  """Multiples of 1, 2 or 5 times a power of ten within [low, high], about `count` of them."""
  if not high > low:
    return [low]
  power = 10 ** math.floor(math.log10((high - low) / count))
  step = min((power * k for k in (1, 2, 5, 10)), key=lambda s: abs((high - low) / s - count))
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [float(f'{k * step:.12g}') for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
  """Powers of ten within [low, high]; with 2 and 5 times them where those alone would be few."""
  decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  for digits in ((1,), (1, 3), (1, 2, 5)):
    found = [float(f'{d}e{k}') for k in decades for d in digits]
    found = [value for value in found if low * 0.999 <= value <= high * 1.001]
    if len(found) > 3:
      break
  return found[:: math.ceil(len(found) / 8)]


def brief(value: float) -> str:
  """A number as an axis shows it: 1200 -> '1.2k', 0.05 -> '0.05', 1e-5 -> '1e-5'."""
  if value == 0:
    return '0'
  for limit, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= limit:
      return f'{value / limit:.4g}{letter}'
  if abs(value) < 1e-3:
    return f'{value:.1e}'.replace('.0e', 'e').replace('e-0', 'e-')
  return f'{value:.3g}'


def percent(value: float) -> str:
  return f'{100 * value:.3g} %'


def thin(line: Line) -> Line:
  """The line with at most POINTS points, each the mean of its neighbours."""
  if len(line.steps) <= POINTS:
    return line
  edges = np.linspace(0, len(line.steps), POINTS + 1).astype(int)[:-1]
  sizes = np.diff([*edges, len(line.steps)])
  steps, values = (np.add.reduceat(a, edges) / sizes for a in (line.steps, line.values))
  return dataclasses.replace(line, steps=steps, values=values)


def chart(
  title,
  lines: list[Line],
  *,
  text=brief,
  log=False,
  zero=False,
  rule=None,
  width=WIDTH,
  over='step',
  log_over=False,
):
  """A figure of curves over steps. `text` writes a value; `log` asks for a logarithmic axis where
  the values span more than a factor of 20; `zero` starts the axis at zero; `rule` is a
  (name, value) to draw a level line at; `over` is what `steps` are, if something else, and
  `log_over` makes its axis logarithmic."""
  lines = [thin(line) for line in lines if len(line.steps)]
  x, y = scales(lines, width, log=log, zero=zero, extra=[rule[1]] if rule else [])
  if log_over:
    steps = np.concatenate([line.steps for line in lines])
    x = Scale(float(steps.min()) / 1.15, float(steps.max()) * 1.15, x.start, x.stop, log=True)
  parts = [grid(x, y, text, over), *(curve(line, x, y) for line in lines)]
  if rule:
    name, value = rule
    parts.append(level(name, value, x, y))
  main = [line for line in lines if not line.faint and not line.aside]
  parts.append(element('g', *stops(main, x, y, text, over), class_='stops'))
  drawing = element(
    'svg', *parts, viewBox=f'0 0 {width} {HEIGHT}', role='img', aria_label=f'{title} over {over}s'
  )
  caption = element('figcaption', element('b', title), ' ', legend(main) if len(main) > 1 else '')
  return element('figure', caption, drawing, class_='chart')


def scales(lines: list[Line], width: float, *, log: bool, zero: bool, extra: list[float]):
  """The horizontal and the vertical scale that hold all the lines."""
  values = np.concatenate([*(line.values for line in lines), extra])
  steps = np.concatenate([line.steps for line in lines])
  x = Scale(min(0, steps.min()), max(steps.max(), 1), LEFT, width - RIGHT)
  positive = values[values > 0]
  log = bool(log and len(positive) and values.min() >= 0 and values.max() > 20 * positive.min())
  low, high = (positive.min() / 1.15, values.max() * 1.15) if log else _room(values, zero)
  return x, Scale(float(low), float(high), HEIGHT - BOTTOM, TOP, log)


def _room(values: np.ndarray, zero: bool) -> tuple[float, float]:
  """The range of the values with a little air; down to zero if that is near or asked for."""
  low, high = float(values.min()), float(values.max())
  air = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
  zero = zero or 0 <= low < 0.5 * high
  return (min(low, 0.0) if zero else low - air), high + air


def grid(x: Scale, y: Scale, text, over: str) -> Html:
  """Level lines with their values, and the steps below."""
  parts = []
  for value in y.ticks():
    parts.append(element('line', x1=LEFT, x2=x.stop, y1=y(value), y2=y(value)))
    parts.append(element('text', text(value), x=LEFT - 7, y=y(value) + 4, text_anchor='end'))
  for value in x.ticks():
    near = 'end' if x(value) > x.stop - 12 else 'middle'
    parts.append(element('text', brief(value), x=x(value), y=HEIGHT - 8, text_anchor=near))
  parts.append(element('text', over, x=LEFT - 11, y=HEIGHT - 8, text_anchor='end'))
  return element('g', *parts, class_='grid')


def level(name: str, value: float, x: Scale, y: Scale) -> Html:
  """A dotted level line with its name above its left end, where falling curves leave room."""
  line = element('line', x1=LEFT, x2=x.stop, y1=y(value), y2=y(value))
  return element('g', line, element('text', name, x=LEFT + 6, y=y(value) - 5), class_='level')


def curve(line: Line, x: Scale, y: Scale) -> Html:
  style = f'curve c{line.colour % 8}{" dashed" * line.dashed}{" faint" * line.faint}'
  points = [f'{x(s)},{y(v)}' for s, v in zip(line.steps, line.values, strict=True)]

  def dot(point: str) -> Html:
    cx, cy = point.split(',')
    return element('circle', cx=cx, cy=cy, r=3, class_=f'dot c{line.colour % 8}')

  if len(points) == 1:
    return dot(points[0])
  stroke = element('polyline', points=' '.join(points), class_=style)
  return element('g', stroke, *map(dot, points)) if line.marks else stroke


def legend(lines: list[Line]) -> Html:
  """Name and a stroke of each line."""
  return element(
    'span', *(element('span', swatch(line), line.name) for line in lines), class_='key'
  )


def swatch(line: Line) -> Html:
  return element('i', class_=f'c{line.colour % 8}{" dashed" * line.dashed}')


def stops(lines: list[Line], x: Scale, y: Scale, text, over: str) -> list[Html]:
  """Invisible upright strips that show the values near them while the pointer is over one: it takes
  no script, and works by a tap too."""
  if not lines:
    return []
  steps = np.unique(np.concatenate([line.steps for line in lines]))
  steps = steps[np.unique(np.linspace(0, len(steps) - 1, STOPS).astype(int))]
  edges = [LEFT, *(x((a + b) / 2) for a, b in itertools.pairwise(steps))]
  edges.append(x.stop)
  spans = zip(steps, itertools.pairwise(edges), strict=True)
  return [stop(lines, step, span, (x, y), text, over) for step, span in spans]


def stop(lines: list[Line], step: float, span, axes, text, over: str) -> Html:
  """One strip: a hair line, a dot on each curve, a box with the values."""
  x, y = axes
  area = element('rect', x=span[0], y=TOP, width=round(span[1] - span[0], 1), height=HEIGHT - 36)
  hair = element('line', x1=x(step), x2=x(step), y1=TOP, y2=HEIGHT - BOTTOM)
  dots, rows = [], [('', f'{over} {step:,.0f}')]
  for line in lines:
    i = int(np.abs(line.steps - step).argmin())
    colour = f'c{line.colour % 8}'
    dots.append(element('circle', cx=x(line.steps[i]), cy=y(line.values[i]), r=3, class_=colour))
    rows.append((colour, f'{line.name} {text(line.values[i])}'.strip()))
  return element('g', area, element('g', hair, *dots, box(rows, x(step), x.stop + RIGHT)))


def box(rows: list[tuple[str, str]], at: float, limit: float) -> Html:
  """A box of (class, text) rows beside the upright at `at`, on the side that has room."""
  width, height = 6.4 * max(len(text) for _, text in rows) + 14, 16 * len(rows) + 8
  left = round(at + 8 if at + 8 + width < limit - 2 else max(at - 8 - width, 2), 1)
  back = element('rect', x=left, y=TOP, width=round(width, 1), height=height, rx=5)
  texts = [
    element('text', text, x=left + 7, y=TOP + 17 + 16 * i, class_=colour or None)
    for i, (colour, text) in enumerate(rows)
  ]
  return element('g', back, *texts, class_='box')
