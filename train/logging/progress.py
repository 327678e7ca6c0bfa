"""Shows the progress of a run: a bar on a terminal (tqdm), a plain line an interval elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile

from train.errors import plain
from train.logging import peaks
from train.task import Task

METRICS = ('loss', 'error')  # of training, shown beside the rate
TEXT = '{percentage:3.0f}%|{n}/{total} [{elapsed}<{remaining}{postfix}]'  # the bar without a bar
BAR = TEXT.replace('|', '|{bar}| ', 1)
SHORTEST = 12  # columns of a bar, and of a clock that reaches hours

Mark = tuple[int, float]
"""(step, seconds of training)."""


class Progress:
  """Counts steps and measures rates.

  Rates leave out the first step, which waits for the compiler, and whatever runs under `paused`.

  Args:
    total: steps in all.
    batch_size: how many of `unit` one step has.
    start: steps done before.
    show: whether to print at all; false in all processes but one.
    unit: what is counted, as in 'images'.
    ideal: seconds that a step would take at the devices' peak, None where that is not known.
    stream: stderr unless given.
    clock: seconds since any beginning.
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
    self._ideal, self._clock, self._stream = ideal, clock, stream or sys.stderr
    self._step, self._started, self._paused = start, clock(), 0.0
    self._first: Mark | None = None  # when the first step was done
    self._last: Mark | None = None  # at the last `rates`
    self._metrics: tuple[str, ...] = ()
    self._speed = 0.0  # of `unit` a second, as of the last `rates`
    on_terminal = show and self._stream.isatty()
    self._redirected = contextlib.ExitStack()
    self._bar = tqdm(
      total=total,
      initial=start,
      file=self._stream,
      disable=not on_terminal,
      dynamic_ncols=True,
      bar_format=BAR,
    )
    if on_terminal and self._stream is sys.stderr:  # log lines pass by the bar
      self._redirected.enter_context(contextlib.redirect_stderr(DummyTqdmFile(self._stream)))

  def update(self, step: int) -> None:
    """Takes the number of steps done, after each."""
    self._bar.update(step - self._step)
    self._step = step
    if self._first is None:
      self._first = self._last = (step, self._active())

  def rates(self) -> dict[str, float]:
    """Returns rates since the last call; 'time/seconds' counts from the start, with all pauses.

    'time/steps_per_second' is there for `MetricLog`, which makes other rates of it.
    """
    record = {'time/seconds': self._clock() - self._started}
    self._speed = self._rate(self._last)
    if self._speed:
      record[f'time/{self._unit}_per_second'] = self._speed
      record['time/steps_per_second'] = self._speed / self._batch_size
      if self._ideal is not None:
        record['time/mfu'] = self._mfu(self._speed)
    if self._last is not None:
      self._last = (self._step, self._active())
    return record

  def show(self, record: Mapping[str, float]) -> None:
    """Takes the newest metrics there are; prints a line where there is no bar."""
    known = [(name, record.get(f'train/{name}')) for name in METRICS]
    words = [f'{name} {value:.4g}' for name, value in known if value is not None]
    self._metrics = (*words, f'(step {record["step"]})') if words else ()
    if self._bar.disable:
      self.note(self._line())
    else:
      self._bar.set_postfix_str(self._fitting(words), refresh=False)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves what runs inside (evaluations, say) out of the rates."""
    before = self._clock()
    try:
      yield
    finally:
      self._paused += self._clock() - before

  def report(self, step: int, metrics: Mapping[str, float]) -> None:
    """Prints an evaluation in a line of its own, above the bar."""
    values = '  '.join(f'{name} {value:.4g}' for name, value in metrics.items())
    self.note(f'step {step}  {values}')

  def note(self, text: str) -> None:
    """Prints a line, above the bar where there is one."""
    if self._show:
      try:
        tqdm.write('\n'.join(map(plain, text.split('\n'))), file=self._stream)
        self._stream.flush()
      except OSError:  # a closed pipe or terminal must not end the run
        self._show, self._bar.disable = False, True

  def close(self) -> None:
    """Leaves the bar, and the cursor on a fresh line; nothing is printed after."""
    self._bar.close()
    self._redirected.close()
    self._show = False

  # -------- inside --------

  def _active(self) -> float:
    return self._clock() - self._paused

  def _rate(self, since: Mark | None) -> float:
    """Returns `unit` a second since then; 0 if nothing happened."""
    if since is None or self._step == since[0]:
      return 0.0
    return (self._step - since[0]) * self._batch_size / max(self._active() - since[1], 1e-9)

  def _mfu(self, rate: float) -> float:
    """Returns the share of the devices' peak at that rate; 0 where the peak is not known."""
    return (self._ideal or 0.0) * rate / self._batch_size

  def _fitting(self, words: Sequence[str]) -> str:
    """Returns the metrics and the rates that a line of the terminal has room for."""
    bare = {**self._bar.format_dict, 'bar_format': TEXT, 'postfix': None}
    room = (self._bar.ncols or 80) - len(tqdm.format_meter(**bare)) - SHORTEST
    fitting: list[str] = []
    for fact in (*words, *format_facts(self._speed, self._unit, self._mfu(self._speed), ())):
      if len('  '.join([*fitting, fact])) <= room:
        fitting.append(fact)
    return '  '.join(fitting)

  def _line(self) -> str:
    overall = self._rate(self._first)
    left = (self._total - self._step) * self._batch_size / overall if overall else None
    facts = format_facts(self._speed, self._unit, self._mfu(self._speed), ())
    return '  '.join(
      [
        f'step {self._step}/{self._total}  {100 * self._step // self._total}%',
        *facts,
        *([] if left is None else [f'{tqdm.format_interval(round(left))} left']),
        *([' '.join(self._metrics)] if self._metrics else []),
      ]
    )


def of_task(task: Task, devices: Sequence[Any], total: int, *, start: int, show: bool) -> Progress:
  """Returns the progress of a training of `total` steps; says if there is no utilisation of it."""
  (unit, number), flops = task.throughput, task.flops
  ideal = peaks.seconds(flops, devices)
  progress = Progress(total, number, unit=unit, ideal=ideal, start=start, show=show)
  if flops and ideal is None:
    kind = devices[0].device_kind
    progress.note(f'MFU unknown: no peak is known of {kind!r}; a step is {flops:.3g} FLOPs')
  return progress


def format_facts(rate: float, unit: str, mfu: float, metrics: Sequence[str]) -> list[str]:
  """Returns the known ones of a rate, the MFU (0 where it is not known) and metrics, as texts."""
  facts = []
  if rate:
    facts.append(f'{rate:,.0f} {unit}/s' if rate >= 10 else f'{rate:.2g} {unit}/s')
  if mfu:
    facts.append(f'MFU {100 * mfu:.1f} %')
  return facts + ([' '.join(metrics)] if metrics else [])
