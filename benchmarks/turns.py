"""Engines that take turns: each a process of its own, so that a slow hour slows all of them.

A benchmark's module plays both parts. The measuring process starts `python -m MODULE --worker ...`
for each engine and calls `measure`; a worker calls `serve`. What differs is only the function that
a worker times, a `Burst`.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from train.runtime import host

ROOT = pathlib.Path(__file__).parents[1]
PAUSE = 0.3  # s before a burst: OpenMP's threads spin on for a while after PyTorch's last step

Burst = Callable[[int], object]  # calls what is timed so many times, and waits for the last


def installed(library: str) -> bool:
  """Tells whether a library can be imported, without importing it."""
  return importlib.util.find_spec(library) is not None


def parser(module: str, doc: str | None, rounds: int, seconds: float) -> argparse.ArgumentParser:
  """Returns a parser of --rounds, --seconds, --json and the internal --worker."""
  made = argparse.ArgumentParser(description=doc, prog=f'python -m {module}')
  made.add_argument('--rounds', type=at_least(1), default=rounds)
  made.add_argument(
    '--seconds', type=float, default=seconds, help='of a burst, which is at least one call'
  )
  made.add_argument('--json', help='a file for the figures')
  made.add_argument('--worker', nargs='+', help=argparse.SUPPRESS)
  return made


def at_least(least: int) -> Callable[[str], int]:
  """Returns an argparse type: a whole number of at least so many."""

  def number(text: str) -> int:
    if int(text) < least:
      raise argparse.ArgumentTypeError(f'{text}: must be at least {least}')
    return int(text)

  return number


def words(
  made: argparse.ArgumentParser, option: str, text: str, choices: Collection[str], needs: str = ''
) -> list[str]:
  """Returns the words of an option, joined by commas; ends the program at one that is no choice.

  needs: a word that must be among them, to which the others are compared.
  """
  found = [word for word in text.split(',') if word]
  if wrong := [word for word in found if word not in choices]:
    made.error(f'{option}: no {wrong[0]!r} here; choose from {", ".join(choices)}')
  if needs and needs not in found:
    made.error(f'{option}: needs {needs}, to which the others are compared')
  return found


def serve(burst: Burst, clock: Callable[[], float] = time.perf_counter, **about: Any) -> None:
  """Prints what the engine is; then for each number on stdin, the seconds of `burst(number)`.

  They are the wall's, or those of another clock, such as of the processor's time.

  One uncounted call comes before: a virtual machine takes back what memory an idle process has
  freed, and the first call pays for it. Between two numbers it does nothing: engines never overlap.
  """
  burst(1)
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    burst(1)
    start = clock()
    burst(int(line))
    print(json.dumps(clock() - start), flush=True)


class Worker:
  """The process of an engine, started as `python -m MODULE ARGUMENTS`.

  It has launch.py's environment (huge pages, XLA's flags) where the caller's says nothing else; of
  an accelerator's memory it takes what it uses, for engines share it.

  engine: the engine's name.
  about: what the process has passed to `serve`.
  """

  def __init__(self, engine: str, module: str, arguments: Sequence[Any], **environment: str):
    self.engine = engine
    shared = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
    self.process = subprocess.Popen(
      [sys.executable, '-m', module, *map(str, arguments)],
      cwd=ROOT,
      env={**host.settings(), **shared, **os.environ, **environment},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    assert self.process.stdin and self.process.stdout
    self._input, self._output = self.process.stdin, self.process.stdout
    self.about: dict[str, Any] = self._read()

  def _read(self) -> Any:
    line = self._output.readline()
    if not line:
      raise RuntimeError(f'{self.engine}: ended with status {self.process.wait()}')
    return json.loads(line)

  def burst(self, calls: int) -> float:
    """Returns the seconds a call."""
    self._input.write(f'{calls}\n')
    self._input.flush()
    return self._read() / calls

  def close(self) -> None:
    """Ends the process."""
    self._input.close()
    self.process.wait()


def measure(workers: Sequence[Worker], rounds: int, seconds: float) -> dict[str, list[float]]:
  """Measures bursts of about `seconds`; another engine begins each round. Closes the workers.

  Returns engine -> seconds a call, of each round.
  """
  with contextlib.ExitStack() as stack:
    for worker in workers:
      stack.enter_context(contextlib.closing(worker))
    calls = {worker.engine: max(1, round(seconds / worker.burst(2))) for worker in workers}
    times: dict[str, list[float]] = {worker.engine: [] for worker in workers}
    for i in range(rounds):
      first = i % len(workers)
      for worker in [*workers[first:], *workers[:first]]:
        time.sleep(PAUSE)
        times[worker.engine].append(worker.burst(calls[worker.engine]))
  return times


def fastest(times: Mapping[str, Sequence[float]], name: str) -> str | None:
  """Returns the engine with the smallest median among those whose names begin with `name`."""
  found = [engine for engine in times if engine.startswith(name)]
  return min(found, key=lambda engine: statistics.median(times[engine]), default=None)


def ratios(times: ArrayLike, other: ArrayLike) -> dict[str, float]:
  """Returns median, 10th and 90th percentile of the rounds' ratios times / other."""
  quotients = np.asarray(times) / np.asarray(other)
  low, middle, high = np.percentile(quotients, [10, 50, 90]).tolist()
  return {'ratio': middle, 'ratio_p10': low, 'ratio_p90': high}


def show(found: Mapping[str, float]) -> str:
  """Returns the three numbers of `ratios` as text."""
  return f'{found["ratio"]:.2f} [{found["ratio_p10"]:.2f}, {found["ratio_p90"]:.2f}]'


def save(path: str | None, **figures: Any) -> None:
  """Writes the figures and their provenance as JSON, if a path is given."""
  if path:
    from train import provenance
    from train.workdir import portable, write_json

    command = portable(['python', *sys.orig_argv[1:]])
    write_json(path, {**provenance.provenance(), 'command': command, **figures})
