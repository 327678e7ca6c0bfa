"""metrics.jsonl, and what goes to other writers (`writers.py`), without waiting for the device.

One line is one JSON object: `{"step": 200, "train/loss": 0.31, ...}`, averaged over the steps since
the line before, or an evaluation's `{"step": 200, "test/error": 0.02}`. Keys `time/...` come from a
clock, `time/games_per_second` too where a metric is called `games_a_step`; all others are the same
bits however often the run was stopped and resumed.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import jax

from train.logging.writers import Open, Writer
from train.task import Metrics
from train.workdir import write_text

Record = dict[str, Any]
COUNTED = '_a_step'  # the end of the name of a metric that counts what a step has of something
Steps = list[tuple[int, Any]]  # (step, its metrics), on the device or fetched


class NonFinite(ArithmeticError):
  """The loss or the gradient of `step` is NaN or infinite."""

  def __init__(self, step: int, name: str, others: Sequence[str] = ()) -> None:
    also = f' (nor {", ".join(others[:3])})' if others else ''
    super().__init__(f'train/{name} is not finite at step {step}{also}')
    self.step, self.name = step, name


class MetricLog:
  """Collects the metrics of steps by intervals, and writes an interval once the next one is over.

  By then the device has long computed it, and has work queued while the host fetches. All
  processes call every method; the one with `write` holds the files. Call `restore` first.

  What fetches raises NonFinite for the first step whose loss or gradient is not finite.

  Args:
    workdir: the run folder.
    write: whether this process does.
    writers: opened by `restore`, for the same lines.
    config: the run's, key -> value, for the writers.
  """

  WATCHED = ('loss', 'grad_norm')

  def __init__(
    self,
    workdir: str,
    *,
    write: bool = True,
    writers: Sequence[Open] = (),
    config: Mapping[str, Any] | None = None,
  ) -> None:
    self._path = os.path.join(workdir, 'metrics.jsonl')
    self._write = write
    self._open: Steps = []
    self._closed: list[tuple[int, Steps, Record]] = []
    self.latest: Record = {}  # the newest line about training
    self._seconds = 0.0  # of training, before this start
    self._file: TextIO | None = None
    self._open_writers, self._config = writers, config or {}
    self._writers: list[Writer] = []

  # -------- the training steps --------

  def add(self, step: int, metrics: Metrics) -> None:
    """Takes name -> (sum, weight), scalars that may still be being computed."""
    self._open.append((step, metrics))

  def close_interval(self, step: int, extra: Mapping[str, float]) -> None:
    """Ends the interval after `step` and writes the one before.

    `extra` goes into its line as is, except that 'time/seconds' adds the starts before this one.
    """
    record = dict(extra)
    if 'time/seconds' in record:
      record['time/seconds'] += self._seconds
    self._closed.append((step, self._open, record))
    self._open = []
    self._write_closed(keep=1)

  def drain(self) -> None:
    """Writes every closed interval, and looks at all steps so far."""
    self._write_closed()
    self._open = _fetch(self._open)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes a line of its own, after those of the intervals that are over."""
    self._write_closed()
    self._put({'step': step, **metrics})

  def show(self, step: int, files: Mapping[str, bytes]) -> None:
    """Hands what a task drew, name -> contents, to the writers."""
    for writer in self._writers:
      writer.files(step, files)

  def _write_closed(self, keep: int = 0) -> None:
    while len(self._closed) > keep:
      step, steps, extra = self._closed[0]
      means = _means(_fetch(steps))
      self._closed.pop(0)
      self.latest = {'step': step, **{f'train/{name}': x for name, x in means.items()}}
      pace = extra.pop('time/steps_per_second', 0.0)
      self.latest |= {**extra, **_rates(means, pace)}
      self._put(self.latest)

  # -------- stopping and resuming --------

  def state(self) -> dict[str, Any]:
    """Returns what a checkpoint keeps: the steps that no line holds yet, exact, as JSON.

    All lines up to here are on the disk when this returns.
    """
    self.drain()
    if self._file is not None:
      os.fsync(self._file.fileno())
    return {'steps': [[step, metrics] for step, metrics in self._open]}

  def restore(self, state: Mapping[str, Any] | None, step: int) -> None:
    """Goes back to the checkpoint of `step`, or with None to an empty log."""
    self._open = [(s, metrics) for s, metrics in state['steps']] if state else []
    self._closed = []
    if not self._write:
      return
    self.close()
    _keep_damaged(self._path)
    lines = [line for line in read(os.path.dirname(self._path)) if state and line['step'] <= step]
    self._seconds = max((line.get('time/seconds') or 0.0 for line in lines), default=0.0)
    write_text(self._path, ''.join(_text(line) for line in lines))
    self._file = open(self._path, 'a')  # noqa: SIM115
    folder = os.path.dirname(self._path)
    self._writers = [start(folder, step + 1, self._config) for start in self._open_writers]

  def close(self) -> None:
    """Closes the files; what was not drained is lost, but for what a checkpoint holds."""
    if self._file is not None:
      self._file.close()
    for writer in self._writers:
      writer.close()
    self._file, self._writers = None, []

  def _put(self, record: Record) -> None:
    if self._file is not None:
      self._file.write(_text(record))
      self._file.flush()
    values = {name: value for name, value in record.items() if name != 'step'}
    for writer in self._writers:
      writer.scalars(record['step'], values)


def read(workdir: str) -> list[Record]:
  """Returns the lines of a workdir's metrics.jsonl; one that is cut short is left out."""
  path = os.path.join(workdir, 'metrics.jsonl')
  if not os.path.exists(path):
    return []
  with open(path, errors='replace') as file:
    lines = map(_record, file)
    return [line for line in lines if line is not None]


def _keep_damaged(path: str) -> None:
  """Says which lines are no records, and keeps a copy: the log is a record, and may go on."""
  if not os.path.exists(path):
    return
  try:
    with open(path, errors='replace') as file:
      # The last line may be cut: the run was killed while it wrote it.
      bad = [n for n, x in enumerate(file, 1) if _record(x) is None and x.endswith('\n')]
    if not bad:
      return
    what = f'line {bad[0]} and {len(bad)} in all are no metrics'
    shutil.copy(path, f'{path}.damaged')
  except OSError as error:  # a folder, or another user's
    what = f'cannot be read: {error.strerror}'
    os.replace(path, f'{path}.damaged')
  print(f'{path}: {what}; kept as {path}.damaged', file=sys.stderr)


def _record(line: str) -> Record | None:
  """Returns the record of a line; None of one that is cut or damaged."""
  try:
    record = json.loads(line) if line.endswith('}\n') else None
  except (ValueError, RecursionError):
    return None
  if not isinstance(record, dict) or type(record.get('step')) is not int:
    return None
  return record if all(map(_is_value, record.values())) else None


def _is_value(value: Any) -> bool:
  return value is None or type(value) is float or (type(value) is int and abs(value) < 2**63)


def _text(record: Record) -> str:
  """Returns a line of strict JSON: null stands for what is not finite."""
  finite = {k: v if v is not None and math.isfinite(v) else None for k, v in record.items()}
  return json.dumps(finite) + '\n'


def _fetch(steps: Steps) -> Steps:
  """Returns (step, name -> [sum, weight]) as floats, which hold the device's float32 exactly."""
  values = jax.device_get([metrics for _, metrics in steps])
  fetched = []
  for (step, _), metrics in zip(steps, values, strict=True):
    metrics = {name: [float(x) for x in pair] for name, pair in metrics.items()}
    for name in MetricLog.WATCHED:
      if name in metrics and not math.isfinite(metrics[name][0]):
        others = [x for x, (total, _) in metrics.items() if x != name and not math.isfinite(total)]
        raise NonFinite(step, name, others)
    fetched.append((step, metrics))
  return fetched


def _rates(means: Mapping[str, float], pace: float) -> dict[str, float]:
  """Returns 'time/games_per_second' of the metric 'games_a_step' at `pace` steps a second."""
  counts = {name: x for name, x in means.items() if pace and name.endswith(COUNTED)}
  return {f'time/{k.removesuffix(COUNTED)}_per_second': x * pace for k, x in counts.items()}


def _means(steps: Steps) -> dict[str, float]:
  """Returns sum over weight of all steps together; a metric without weight is left out."""
  names = dict.fromkeys(name for _, metrics in steps for name in metrics)
  totals = {
    name: [sum(metrics[name][i] for _, metrics in steps if name in metrics) for i in (0, 1)]
    for name in names
  }
  return {name: total / weight for name, (total, weight) in totals.items() if weight}
