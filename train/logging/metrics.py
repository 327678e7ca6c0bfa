"""metrics.jsonl and TensorBoard events, without waiting for the device and without TensorFlow.

One line is one JSON object: `{"step": 200, "train/loss": 0.31, ...}`, averaged over the steps since
the line before, or an evaluation's `{"step": 200, "test/error": 0.02}`. Keys `time/...` come from a
clock, `time/games_per_second` too where a metric is called `games_a_step`; all others are the same
bits however often the run was stopped and resumed.
"""

import json
import math
import os
import sys
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import jax

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
  """

  WATCHED = ('loss', 'grad_norm')

  def __init__(self, workdir: str, *, write: bool = True) -> None:
    self._path = os.path.join(workdir, 'metrics.jsonl')
    self._write = write
    self._open: Steps = []
    self._closed: list[tuple[int, Steps, Record]] = []
    self.latest: Record = {}  # the newest line about training
    self._seconds = 0.0  # of training, before this start
    self._file: TextIO | None = None
    self._events: _EventFile | None = None

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
    lines = [line for line in read(os.path.dirname(self._path)) if state and line['step'] <= step]
    self._seconds = max((line.get('time/seconds', 0.0) for line in lines), default=0.0)
    write_text(self._path, ''.join(_text(line) for line in lines))
    self._file = open(self._path, 'a')  # noqa: SIM115
    self._events = _EventFile(os.path.dirname(self._path), step + 1)

  def close(self) -> None:
    """Closes the files; what was not drained is lost, but for what a checkpoint holds."""
    if self._file is not None:
      self._file.close()
    if self._events is not None:
      self._events.close()
    self._file = self._events = None

  def _put(self, record: Record) -> None:
    if self._file is not None:
      self._file.write(_text(record))
      self._file.flush()
    if self._events is not None:
      self._events.write(record)


def read(workdir: str) -> list[Record]:
  """Returns the lines of a workdir's metrics.jsonl; one that is cut short is left out."""
  path = os.path.join(workdir, 'metrics.jsonl')
  if not os.path.exists(path):
    return []
  with open(path, errors='replace') as file:
    lines = [_record(line) for line in file if line.endswith('}\n')]
  return [line for line in lines if line is not None]


def _record(line: str) -> Record | None:
  """Returns the record of a line; None of one that is damaged."""
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return None
  return record if isinstance(record, dict) and isinstance(record.get('step'), int) else None


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


class _EventFile:
  """TensorBoard's own writer; voids what an earlier start left of steps from `step` on."""

  def __init__(self, workdir: str, step: int) -> None:
    # Tells TensorBoard to do without TensorFlow where that is installed.
    sys.modules.setdefault('tensorboard.compat.notf', types.ModuleType('notf'))
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    self._event, self._summary = event_pb2, summary_pb2.Summary
    self._writer = EventFileWriter(workdir)
    started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(step, session_log=started)

  def write(self, record: Record) -> None:
    values = [
      self._summary.Value(tag=name, simple_value=value)
      for name, value in record.items()
      if name != 'step'
    ]
    self._add(record['step'], summary=self._summary(value=values))

  def _add(self, step: int, **content: Any) -> None:
    self._writer.add_event(self._event.Event(wall_time=time.time(), step=step, **content))
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()
