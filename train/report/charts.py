"""Curves drawn by matplotlib, as SVG that takes its colours and fonts from the page.

matplotlib draws in stand-in colours, for which `_themed` puts the CSS variables of report.css, so
that a chart follows light, dark and print.
"""

import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.scale import LogScale, ScaleBase, SymmetricalLogScale
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

WIDTH, SMALL, HEIGHT = 460, 330, 240  # of a chart, in SVG units; SMALL stands three in a row
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 14, 26  # margins
POINTS = 300  # a curve is thinned to at most so many
STOPS = 60  # places where a chart answers to the pointer
READ = 12  # lines whose values it shows there
NOTHING = 1e-12  # of the largest value: a logarithmic axis draws less as 0
COLOURS = 11  # --c0 to --c10 in report.css; those beyond are hues, HUES of them
HUES = 200
TEST, TRAIN, VAL, OTHER = 0, 1, 2, 3  # colour of a split; OTHER is the first for what is neither
STAND_INS = {f'#00fa{i:02x}': f'var(--c{i})' for i in range(COLOURS)} | {
  # Neighbours are a golden section of the circle apart: as far as can be, however many there are.
  f'#00fa{i:02x}': f'oklch(var(--light) .15 {137.5 * i % 360:.0f})'
  for i in range(COLOURS, COLOURS + HUES)
}
PALETTE = list(STAND_INS)
SOFT, GRID = '#00fb00', '#00fb01'
STAND_INS |= {SOFT: 'var(--soft)', GRID: 'var(--line)'}
STYLE: dict[Any, Any] = {
  'svg.fonttype': 'none',  # text stays text
  'svg.hashsalt': 'report',  # the same file each time
  'text.parse_math': False,
}


@dataclasses.dataclass(frozen=True)
class Line:
  """One curve.

  Attributes:
    name: In the legend; None keeps the line out of it and from answering to the pointer.
    steps: [N], rising.
    values: [N]; what is NaN is marked by a cross at the lower edge.
    colour: A number of the palette; see `colour`.
    dashed: Whether it is a fit, or training data of one of several experiments.
    faint: Whether it is a single seed behind the mean of several.
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
class Chart:
  """A drawn chart: the content of an <svg> of `width` x HEIGHT, each named line's last value."""

  title: str
  over: str
  width: int
  svg: Markup
  legend: list[tuple[Line, str]]


def colour(number: int) -> str:
  """Returns the CSS colour of a number of the palette, which begins again after its last."""
  return STAND_INS[PALETTE[number % len(PALETTE)]]


def brief(value: float) -> str:
  """Writes a number as an axis shows it: 1200 -> '1.2k', 0.05 -> '0.05', 1e-5 -> '1e-5'."""
  if not np.isfinite(value):
    return 'not finite'
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
  return f'{100 * value:.3g} %' if np.isfinite(value) else 'not finite'


def chart(
  title: str,
  lines: list[Line],
  *,
  text: Callable[[float], str] = brief,
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
    text: Writes a value.
    log: Asks for a logarithmic axis, which is drawn where the values span more than a factor of 20.
      Values of 0 lie on a line of their own below it.
    zero: Whether the linear axis starts at 0.
    level: (name, value) of a level line, such as the paper's number.
    width: In SVG units.
    over: What `steps` are.
    log_over: Whether the axis of steps is logarithmic, too.
  """
  lines = [line for line in lines if len(line.steps)]
  named = [line for line in lines if line.name is not None]
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(width / 72, HEIGHT / 72), dpi=72)  # one SVG unit is a point
    size = (width - LEFT - RIGHT) / width, (HEIGHT - TOP - BOTTOM) / HEIGHT
    axes = figure.add_axes((LEFT / width, BOTTOM / HEIGHT, *size))
    axes.set_frame_on(False)
    axes.tick_params(length=0, pad=7, labelcolor=SOFT)
    axes.grid(axis='y', color=GRID, linewidth=1, clip_on=False)
    for line in lines:
      _draw(axes, thin(line))
    if level:
      axes.axhline(level[1], color=SOFT, linestyle=(0, (2, 4)), linewidth=1, clip_on=False)
      place: dict[str, Any] = {
        'xycoords': axes.get_yaxis_transform(),
        'textcoords': 'offset points',
      }
      axes.annotate(level[0], (0, level[1]), (6, 5), color=SOFT, gid='level', **place)
    _scale(axes, lines, level[1:] if level else (), log=log, zero=zero, log_over=log_over)
    axes.yaxis.set_major_formatter(lambda value, _: text(value))
    axes.xaxis.set_major_formatter(lambda value, _: brief(value))
    figure.text((LEFT - 11) / width, 8 / HEIGHT, over, color=SOFT, ha='right')
    svg = _themed(figure) + _readout(axes, named, text, over)
  return Chart(title, over, width, svg, [(line, _last(line, lines, text, over)) for line in named])


def _last(line: Line, lines: list[Line], text: Callable[[float], str], over: str) -> str:
  """Returns the line's last value, where that is if others go on, and whether there are crosses."""
  end = line.steps[-1]
  ends_before = any(other.steps[-1] > end for other in lines)
  where = f' at {over} {end:,.0f}' if ends_before else ''
  return text(line.values[-1]) + where + ', × not finite' * bool(np.isnan(line.values).any())


def thin(line: Line) -> Line:
  """Returns the line with about POINTS points: its ends, the least and the most of each part.

  Of what is not finite the first of each part stays.
  """
  if len(line.steps) <= POINTS:
    return line
  kept = {0, len(line.steps) - 1}
  for part in np.array_split(np.arange(len(line.steps)), POINTS // 2):
    known = np.isfinite(line.values[part])
    finite = part[known]
    if len(finite):
      kept |= {int(finite[find(line.values[finite])]) for find in (np.argmin, np.argmax)}
    kept |= set(part[~known][:1].tolist())
  places = sorted(kept)
  return dataclasses.replace(line, steps=line.steps[places], values=line.values[places])


def _draw(axes: Axes, line: Line) -> None:
  # The limits hold all there is: clipping would only add to the file.
  style: dict[str, Any] = {
    'color': PALETTE[line.colour % len(PALETTE)],
    'linewidth': 1 if line.faint else 1.8,
    'alpha': 0.35 if line.faint else None,
    'clip_on': False,
  }
  dash = (0, (3, 2)) if line.dashed else '-'
  axes.plot(line.steps, line.values, linestyle=dash, **style)
  known = np.isfinite(line.values)
  around = np.pad(known, 1)
  alone = known & ~around[:-2] & ~around[2:]  # which no line joins to others
  dots = known if line.marks else alone
  style['linestyle'] = 'none'
  if dots.any():
    axes.plot(line.steps[dots], line.values[dots], marker='o', markersize=5, **style)
  if not known.all():
    edge = axes.get_xaxis_transform()  # steps, and 0 at the lower edge
    axes.plot(line.steps[~known], 0 * line.steps[~known], marker='x', transform=edge, **style)


def _scale(axes: Axes, lines: list[Line], extra, *, log: bool, zero: bool, log_over: bool) -> None:
  """Chooses scales and limits of both axes so that they hold all lines and `extra` values."""
  values = np.concatenate([*(line.values for line in lines), extra])
  values = values[np.isfinite(values)]
  steps = np.concatenate([line.steps for line in lines])
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
  axes.margins(x=0, y=0.06)
  axes.set_xlim(min(0, steps.min()), max(steps.max(), 1))
  if log_over:
    _log_axis(axes, 'x', steps)
  if not len(values):
    return
  positive = values[values > 0]
  if log and len(positive) and values.min() >= 0 and values.max() > 20 * positive.min():
    _log_axis(axes, 'y', values)
  elif values.min() >= 0 and (zero or values.min() <= 0.5 * values.max()):
    axes.set_ylim(bottom=0)


def _log_axis(axes: Axes, name: str, values: np.ndarray) -> None:
  """Makes an axis logarithmic; linear below the rest where a value is 0, which has no logarithm."""
  low = values[values > NOTHING * values.max()].min() / 1.15
  high = values.max() * 1.15
  decades = np.log10(high / low)
  digits = (1,) if decades > 3 else (1, 3) if decades > 2 else (1, 2, 5)
  ticks = [tick for tick in LogLocator(subs=digits).tick_values(low, high) if low <= tick <= high]
  scale: ScaleBase = LogScale(None)
  if (values < low).any():
    scale = SymmetricalLogScale(None, linthresh=low, linscale=0.15 * decades)
    low, ticks = 0, [0, *ticks]
  axes.set(**{f'{name}scale': scale, f'{name}ticks': ticks, f'{name}lim': (low, high)})
  getattr(axes, f'{name}axis').set_minor_locator(NullLocator())


def _themed(figure: Figure) -> Markup:
  """Returns the content of the figure's SVG, in the page's colours and fonts."""
  file = io.StringIO()
  figure.savefig(file, format='svg', transparent=True)
  svg = file.getvalue()
  svg = svg[svg.index('<g id="figure_1">') : svg.rindex('</svg>')]
  svg = svg.replace('id="level"', 'class="level"')
  svg = re.sub(
    r' id="\w+_\d+"| id="matplotlib[^"]*"|<!--.*?-->| transform="rotate\(-0 .*?"|\n', ' ', svg
  )
  svg = re.sub(r'font(-size|-family)?: [^;]*; ?', '', svg)
  return Markup(re.sub('#00f[ab][0-9a-f]{2}', lambda colour: STAND_INS[colour[0]], svg))


def _readout(axes: Axes, lines: list[Line], text: Callable[[float], str], over: str) -> Markup:
  """Returns strips that show the values near them under the pointer, or by a tap."""
  if not lines:
    return Markup('')
  steps = np.unique(np.concatenate([line.steps for line in lines]))
  steps = steps[np.unique(np.linspace(0, len(steps) - 1, STOPS).astype(int))]
  edges = [axes.get_xlim()[0], *((steps[1:] + steps[:-1]) / 2), axes.get_xlim()[1]]
  places = axes.transData.transform([(edge, 1) for edge in edges])[:, 0].tolist()
  right = axes.bbox.x1 + RIGHT - 6
  strips = []
  for i, step in enumerate(steps):
    rows = [('', f'{over} {step:,.0f}')]
    rows += [_value_at(line, step, edges[i : i + 2], text) for line in lines[:READ]]
    rows += [('', f'and {len(lines) - READ} more')] * (len(lines) > READ)
    row = Markup('<tspan x="{}" dy="15" style="{}">{}</tspan>')
    texts = Markup('').join(row.format(right, *words) for words in rows)
    strip = Markup(
      '<g class="stop"><rect x="{:.1f}" width="{:.1f}" height="{}"/><text y="6">{}</text></g>'
    )
    strips.append(strip.format(places[i], places[i + 1] - places[i], HEIGHT, texts))
  return Markup('').join(strips)


def _value_at(
  line: Line, step: float, strip: Sequence[float], text: Callable[[float], str]
) -> tuple[str, str]:
  """Returns the style and the words of a line's value nearest to a step.

  They say where the value is if that is outside of the strip.
  """
  nearest = np.abs(line.steps - step).argmin()
  place = line.steps[nearest]
  where = '' if strip[0] <= place <= strip[1] else f' at {place:,.0f}'
  return f'--c: {colour(line.colour)}', f'{line.name} {text(line.values[nearest])}{where}'.strip()
