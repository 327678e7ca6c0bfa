"""Progress of a run: a bar on a terminal, a plain line an interval elsewhere; images/s and ETA."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

METRICS = ('loss', 'error')  # what the line shows of the training
REDRAW = 0.1  # seconds between two drawings of the bar

Mark = tuple[int, float]  # (step, seconds of training)


class Progress:
  """Counts steps from `start` to `total`; `unit` is what a batch has `batch_size` of.

  ideal: seconds that a step would take at the devices' peak, None where that is not known.

  Rates leave out the first step, which waits for the compiler, and whatever runs under `paused`.
  """

  def __init__(
    self,
    total: int,
    batch_size: int,
    *,
    start: int = 0,
    show: bool = True,
    unit: str = 'images',
    ideal: float | None = None,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
  ) -> None:
    self._total, self._batch_size, self._unit, self._show = total, batch_size, unit, show
    self._ideal = ideal
    self._stream, self._clock = stream or sys.stderr, clock
    self._bar = show and self._stream.isatty()
    self._step = start
    self._started = clock()
    self._paused = 0.0  # seconds
    self._first: Mark | None = None  # when the first step was done
    self._last: Mark | None = None  # at the last `rates`
    self._drawn = 0.0
    self._words: tuple[str, ...] = ()  # the newest metrics
    self._speed = 0.0  # images a second, as of the last `rates`

  def update(self, step: int) -> None:
    """After each step."""
    self._step = step
    if self._first is None:
      self._first = self._last = (step, self._active())
    now = self._clock()
    if self._bar and (now - self._drawn >= REDRAW or step == self._total):
      self._drawn = now
      self._draw()

  def rates(self) -> dict[str, float]:
    """Since the last call; 'time/seconds' is the time since the start, with all pauses.

    'time/steps_per_second' is there for `MetricLog`, which makes other rates of it.
    """
    record = {'time/seconds': self._clock() - self._started}
    self._speed = self._rate(self._last)
    if self._speed:
      record[f'time/{self._unit}_per_second'] = self._speed
      record['time/steps_per_second'] = self._speed / self._batch_size
      if self._ideal is not None:
        record['time/mfu'] = self._use(self._speed)
    if self._last is not None:
      self._last = (self._step, self._active())
    return record

  def show(self, record: Mapping[str, float]) -> None:
    """Takes the newest line of metrics there is; prints a line where there is no bar."""
    known = [(name, record.get(f'train/{name}')) for name in METRICS]
    words = [f'{name} {value:.4g}' for name, value in known if value is not None]
    self._words = (*words, f'(step {record["step"]})') if words else ()
    if self._show and not self._bar:
      self.note(self._line(self._speed))

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """For evaluations, and all else that is not training."""
    before = self._clock()
    try:
      yield
    finally:
      self._paused += self._clock() - before

  def report(self, step: int, metrics: Mapping[str, float]) -> None:
    """A line of its own, above the bar."""
    values = '  '.join(f'{name} {value:.4g}' for name, value in metrics.items())
    self.note(f'step {step}  {values}')

  def note(self, text: str) -> None:
    if not self._show:
      return
    self._clear()
    print(text, file=self._stream, flush=True)
    if self._bar:
      self._draw()

  def close(self) -> None:
    """Leaves the cursor on a fresh line."""
    if self._bar and self._drawn:
      print(file=self._stream, flush=True)
    self._bar = self._show = False

  # -------- inside --------

  def _active(self) -> float:
    return self._clock() - self._paused

  def _rate(self, since: Mark | None) -> float:
    """Images a second since then; 0 if nothing happened."""
    if since is None or self._step == since[0]:
      return 0.0
    return (self._step - since[0]) * self._batch_size / max(self._active() - since[1], 1e-9)

  def _use(self, rate: float) -> float:
    """The share of the devices' peak at so many images a second; 0 where it is not known."""
    return (self._ideal or 0.0) * rate / self._batch_size

  def _line(self, rate: float, width: int | None = None) -> str:
    overall = self._rate(self._first)
    left = (self._total - self._step) * self._batch_size / overall if overall else None
    return format_line(
      self._step,
      self._total,
      rate,
      left,
      unit=self._unit,
      use=self._use(rate),
      words=self._words,
      width=width,
    )

  def _draw(self) -> None:
    width = shutil.get_terminal_size().columns - 1
    line = self._line(self._rate(self._last) or self._rate(self._first), width)
    print(f'\r{line:<{width}}', end='', file=self._stream, flush=True)

  def _clear(self) -> None:
    if self._bar:
      print('\r\x1b[K', end='', file=self._stream)


def format_line(
  step: int,
  total: int,
  rate: float,
  seconds_left: float | None,
  *,
  unit: str = 'images',
  use: float = 0.0,
  words: Sequence[str] = (),
  width: int | None = None,
) -> str:
  """One line of progress; with a `width` in characters, a bar fills what all words leave.

  use: the MFU, 0 where it is not known.
  """
  facts = [f'step {step}/{total}', f'{100 * step // total}%']
  if rate:
    facts.append(f'{rate:,.0f} {unit}/s' if rate >= 10 else f'{rate:.2g} {unit}/s')
  if use:
    facts.append(f'MFU {100 * use:.1f} %')
  if seconds_left is not None:
    facts.append(f'{format_seconds(seconds_left)} left')
  line = '  '.join([*facts, ' '.join(words)] if words else facts)
  if width is None:
    return line
  room = min(40, width - len(line) - 3)
  if room < 5:
    return line[:width]
  done = room * step // total
  return f'[{"#" * done}{"." * (room - done)}] {line}'


def format_seconds(seconds: float) -> str:
  """'0:07', '12:34', '1:02:03'."""
  minutes, second = divmod(round(seconds), 60)
  hour, minute = divmod(minutes, 60)
  return f'{hour}:{minute:02}:{second:02}' if hour else f'{minute}:{second:02}'
