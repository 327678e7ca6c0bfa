"""Curves drawn by matplotlib, as SVG that takes its colours and fonts from the page.

matplotlib draws in stand-in colours, for which `_themed` puts the CSS variables of report.css, so
that a chart follows light, dark and print.
"""

import dataclasses
import io
import itertools
import math
import re
from collections.abc import Callable

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.scale import LogScale, SymmetricalLogScale
from matplotlib.ticker import MaxNLocator, NullLocator

WIDTH, SMALL, HEIGHT = 460, 330, 240  # of a chart, in SVG units; SMALL stands three in a row
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 14, 26  # margins
POINTS = 300  # a curve is thinned to at most so many
STOPS = 60  # places where a chart answers to the pointer
NOTHING = 1e-12  # of the largest value: a logarithmic axis draws less as 0
COLOURS = 8  # --c0 to --c7 in report.css
TEST, TRAIN, OTHER = 0, 1, 2  # colour of a split; OTHER is the first for what is neither
STAND_INS = {f'#00fa0{i}': f'var(--c{i})' for i in range(COLOURS)} | {
  '#00fb00': 'var(--soft)',
  '#00fb01': 'var(--line)',
}
SOFT, GRID = list(STAND_INS)[COLOURS:]
STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'report', 'text.parse_math': False}


@dataclasses.dataclass(frozen=True)
class Line:
  """One curve.

  Attributes:
    name: In the legend; '' keeps the line out of it and from answering to the pointer.
    steps: [N], rising.
    values: [N], finite.
    colour: A number of the palette, modulo COLOURS.
    faint: A single seed behind the mean of several.
    marks: Whether there is a dot at each point.
  """

  name: str | None
  steps: np.ndarray
  values: np.ndarray
  colour: int = 0
  dashed: bool = False
  faint: bool = False
  marks: bool = False


@dataclasses.dataclass(frozen=True)
class Stop:
  """An upright strip of a chart and what it shows under the pointer: rows of (colour, text)."""

  left: float
  width: float
  rows: list[tuple[int | None, str]]


@dataclasses.dataclass(frozen=True)
class Chart:
  """A drawn chart: `svg` is what goes inside of an <svg> of `width` x HEIGHT.

  legend: (line, its last value in words), without the lines that have no name.
  """

  title: str
  over: str
  width: int
  svg: Markup
  legend: list[tuple[Line, str]]
  stops: list[Stop]


def chart(
  title: str,
  lines: list[Line],
  *,
  text: Callable[[float], str] | None = None,
  log: bool = False,
  zero: bool = False,
  level: tuple[str, float] | None = None,
  width: int = WIDTH,
  over: str = 'step',
  log_over: bool = False,
) -> Chart:
  """Returns the chart of curves over steps.

  Args:
    title: The heading.
    lines: At least one with a point.
    text: Writes a value on the axis; `brief` if not given.
    log: Asks for a logarithmic axis, which is drawn where the values span more than a factor of 20.
      Values of 0 lie on a line of their own below it.
    zero: Whether the linear axis starts at 0.
    level: (name, value) of a level line, such as the paper's number.
    width: In SVG units.
    over: What `steps` are.
    log_over: Whether the axis of steps is logarithmic, too.
  """
  text = text or brief
  lines = [line for line in lines if len(line.steps)]
  named = [line for line in lines if line.name is not None]
  legend = [(line, text(line.values[-1])) for line in named]
  with matplotlib.rc_context():
    matplotlib.rcdefaults()  # whatever a reader's own matplotlibrc says
    matplotlib.rcParams.update(STYLE)
    figure, axes = _axes(width)
    for line in lines:
      _draw(axes, thin(line))
    _limit(axes, lines, [level[1]] if level else [], log=log, zero=zero, log_over=log_over)
    axes.yaxis.set_major_formatter(lambda value, _: text(value))
    axes.xaxis.set_major_formatter(lambda value, _: brief(value))
    figure.text((LEFT - 11) / width, 8 / HEIGHT, over, color=SOFT, ha='right')
    if level:
      _level(axes, *level)
    svg = _themed(figure)
    return Chart(title, over, width, svg, legend, _stops(axes, named, text, over))


def _axes(width: int) -> tuple[Figure, Axes]:
  figure = Figure(figsize=(width / 72, HEIGHT / 72), dpi=72)  # one SVG unit is a point
  figure.patch.set_visible(False)
  size = (width - LEFT - RIGHT) / width, (HEIGHT - TOP - BOTTOM) / HEIGHT
  axes = figure.add_axes((LEFT / width, BOTTOM / HEIGHT, *size))
  axes.set_frame_on(False)
  axes.tick_params(length=0, pad=7, labelcolor=SOFT)
  axes.grid(axis='y', color=GRID, linewidth=1, clip_on=False)
  return figure, axes


def _draw(axes: Axes, line: Line) -> None:
  colour = list(STAND_INS)[line.colour % COLOURS]
  dots = 'o' if line.marks or len(line.steps) == 1 else ''
  stroke = {'linestyle': (0, (3, 2)) if line.dashed else '-', 'linewidth': 1.8}
  if line.faint:
    stroke |= {'linewidth': 1, 'alpha': 0.35}
  # The limits hold every point: clipping would only add to the file.
  axes.plot(
    line.steps, line.values, color=colour, marker=dots, markersize=5, clip_on=False, **stroke
  )


def _limit(
  axes: Axes, lines: list[Line], extra: list[float], *, log: bool, zero: bool, log_over: bool
) -> None:
  """Sets limits, scale and ticks of both axes so that they hold all lines and `extra` values."""
  values = np.concatenate([*(line.values for line in lines), extra])
  steps = np.concatenate([line.steps for line in lines])
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
  axes.set(xlim=(min(0, steps.min()), max(steps.max(), 1)), ylim=_room(values, zero))
  if log_over:
    _log_axis(axes, 'x', steps)
  positive = values[values > 0]
  if log and len(positive) and values.min() >= 0 and values.max() > 20 * positive.min():
    _log_axis(axes, 'y', values)


def _log_axis(axes: Axes, name: str, values: np.ndarray) -> None:
  """Makes an axis logarithmic; linear below the rest where a value is 0, which has no logarithm."""
  positive = values[values > NOTHING * values.max()]
  low, high = float(positive.min()) / 1.15, float(positive.max()) * 1.15
  ticks, scale, bottom = log_ticks(low, high), LogScale(None), low
  if (values < low).any():
    decades = 0.15 * math.log10(high / low)  # that 0 is below the smallest value
    ticks, scale, bottom = (
      [0, *ticks],
      SymmetricalLogScale(None, linthresh=low, linscale=decades),
      0,
    )
  axes.set(**{f'{name}scale': scale, f'{name}ticks': ticks, f'{name}lim': (bottom, high)})
  getattr(axes, f'{name}axis').set_minor_locator(NullLocator())


def _room(values: np.ndarray, zero: bool) -> tuple[float, float]:
  """Returns the range of the values with a little air; down to 0 if that is near or asked for."""
  low, high = float(values.min()), float(values.max())
  air = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
  zero = zero or 0 <= low < 0.5 * high
  return (min(low, 0.0) if zero else low - air), high + air


def log_ticks(low: float, high: float) -> list[float]:
  """Returns powers of ten within [low, high], with 2 and 5 times them where those would be few."""
  decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  for digits in ((1,), (1, 3), (1, 2, 5)):
    ticks = [float(f'{digit}e{decade}') for decade in decades for digit in digits]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) > 3:
      break
  return ticks[:: math.ceil(len(ticks) / 8)] or [low]


def _level(axes: Axes, name: str, value: float) -> None:
  """Draws a dotted line with its name above its left end, where falling curves leave room."""
  axes.axhline(value, color=SOFT, linestyle=(0, (2, 4)), linewidth=1, clip_on=False)
  place = {'xycoords': ('axes fraction', 'data'), 'textcoords': 'offset points'}
  axes.annotate(name, (0, value), (6, 5), **place, color=SOFT, gid='level')


def _themed(figure: Figure) -> Markup:
  """Returns what the figure's SVG holds, in the page's colours and without matplotlib's fonts."""
  file = io.StringIO()
  figure.savefig(file, format='svg')
  svg = file.getvalue()
  svg = svg[svg.index('<g id="figure_1">') : svg.rindex('</svg>')].replace(
    'id="level"', 'class="level"'
  )
  svg = re.sub(r'<g id="[^"]*"/>|<!--.*?-->|( transform="rotate\(-0 [^"]*")|\n', ' ', svg)
  svg = re.sub(r'<g id="[^"]*"', '<g', svg)  # the ids would repeat from chart to chart
  svg = re.sub(r'font-(size|family): [^;]*; ?', '', svg)
  return Markup(re.sub('#00f[ab]0.', lambda colour: STAND_INS[colour[0]], svg))


def _stops(axes: Axes, lines: list[Line], text: Callable, over: str) -> list[Stop]:
  """Returns strips that show the values near them while the pointer is over one: it takes no script,
  and works by a tap too."""
  if not lines:
    return []
  steps = np.unique(np.concatenate([line.steps for line in lines]))
  steps = steps[np.unique(np.linspace(0, len(steps) - 1, STOPS).astype(int))]
  left, right = axes.get_xlim()
  edges = [left, *((steps[1:] + steps[:-1]) / 2), right]
  places = axes.transData.transform([(edge, 1) for edge in edges])[:, 0].round(1)
  found = []
  for step, (start, end) in zip(steps, itertools.pairwise(places.tolist()), strict=True):
    near = [(line, line.values[np.abs(line.steps - step).argmin()]) for line in lines]
    rows = [(line.colour % COLOURS, f'{line.name} {text(value)}'.strip()) for line, value in near]
    found.append(Stop(start, round(end - start, 1), [(None, f'{over} {step:,.0f}'), *rows]))
  return found


def thin(line: Line) -> Line:
  """Returns the line with at most POINTS points, each the mean of its neighbours."""
  if len(line.steps) <= POINTS:
    return line
  edges = np.linspace(0, len(line.steps), POINTS + 1).astype(int)[:-1]
  sizes = np.diff([*edges, len(line.steps)])
  steps, values = (np.add.reduceat(a, edges) / sizes for a in (line.steps, line.values))
  return dataclasses.replace(line, steps=steps, values=values)


def brief(value: float) -> str:
  """Writes a number as an axis shows it: 1200 -> '1.2k', 0.05 -> '0.05', 1e-5 -> '1e-5'."""
  if value == 0:
    return '0'
  for limit, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= limit:
      return f'{value / limit:.4g}{letter}'
  if abs(value) < 1e-3:
    return f'{value:.1e}'.replace('.0e', 'e').replace('e-0', 'e-')
  return f'{value:.3g}'


def percent(value: float) -> str:
  """Writes a share of 1: 0.051 -> '5.1 %'."""
  return f'{100 * value:.3g} %'
