"""Engines that take turns: each a process of its own, so that a slow hour slows all of them.

A worker's process calls `serve`, and the measuring one `measure`s several of them.
"""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from train.runtime import host

ROOT = pathlib.Path(__file__).parents[1]
PAUSE = 0.3  # s before a burst: OpenMP's threads spin on for a while after PyTorch's last step


def serve(burst, **about) -> None:
  """Says what it is; then for each number on stdin calls `burst(number)` and says its seconds.

  One uncounted call comes before: a virtual machine takes back what memory an idle process has
  freed, and the first call pays for it. Between two orders it does nothing: engines never overlap.
  """
  burst(1)
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    burst(1)
    start = time.perf_counter()
    burst(int(line))
    print(json.dumps(time.perf_counter() - start), flush=True)


class Worker:
  """The process of an engine, started as `python -m MODULE ARGUMENTS`; `about` is what it said.

  It has launch.py's environment (huge pages, XLA's flags) where the caller's says nothing else; of
  an accelerator's memory it takes what it uses, for they share it.
  """

  def __init__(self, engine: str, module: str, arguments: Sequence, **environment: str):
    self.engine = engine
    command = [sys.executable, '-m', module, *map(str, arguments)]
    shared = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
    pipe, everything = subprocess.PIPE, {**host.settings(), **shared, **os.environ, **environment}
    self.process = subprocess.Popen(
      command, cwd=ROOT, env=everything, stdin=pipe, stdout=pipe, text=True
    )
    self.about = self._read()

  def _read(self):
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(f'{self.engine}: ended with status {self.process.wait()}')
    return json.loads(line)

  def burst(self, calls: int) -> float:
    """Seconds a call."""
    self.process.stdin.write(f'{calls}\n')
    self.process.stdin.flush()
    return self._read() / calls

  def close(self):
    self.process.stdin.close()
    self.process.wait()


def measure(workers: Sequence[Worker], rounds: int, seconds: float) -> dict[str, list[float]]:
  """Engine -> seconds a call, of each round; another one begins each time. Closes the workers."""
  with contextlib.ExitStack() as stack:
    for worker in workers:
      stack.enter_context(contextlib.closing(worker))
    calls = {worker.engine: max(1, round(seconds / worker.burst(2))) for worker in workers}
    times = {worker.engine: [] for worker in workers}
    for i in range(rounds):
      first = i % len(workers)
      for worker in [*workers[first:], *workers[:first]]:
        time.sleep(PAUSE)
        times[worker.engine].append(worker.burst(calls[worker.engine]))
  return times


def fastest(times: dict[str, list[float]], name: str) -> str | None:
  """Of the engines whose names begin so, the one with the smallest median."""
  found = [engine for engine in times if engine.startswith(name)]
  return min(found, key=lambda engine: statistics.median(times[engine]), default=None)


def ratios(times: Sequence[float], other: Sequence[float]) -> dict[str, float]:
  """Of the rounds' ratios times / other: median, and 10th and 90th percentile."""
  low, middle, high = np.percentile(np.array(times) / np.array(other), [10, 50, 90]).tolist()
  return {'ratio': middle, 'ratio_p10': low, 'ratio_p90': high}


def show(found: dict[str, float]) -> str:
  return f'{found["ratio"]:.2f} [{found["ratio_p10"]:.2f}, {found["ratio_p90"]:.2f}]'


def save(path: str | None, **figures) -> None:
  """The figures and where they come from, as JSON, if a path is given."""
  if path:
    from train import provenance
    from train.workdir import write_json

    write_json(path, {**provenance.provenance(), **figures})
