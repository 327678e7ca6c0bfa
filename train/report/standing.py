"""Tells which recorded numbers still stand: by commands that are accepted, at which age."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CODE = ('models', 'mcts', 'data', 'train')  # what a number may depend on


def remarks(records: Iterable[Mapping[str, Any]], root: Path) -> list[str]:
  """Returns a line for each record whose command is refused, or whose code has changed since.

  Args:
    records: as `results.record` makes them.
    root: of the checkout, in which the commands are tried, without training.
  """
  return [
    f'{record["name"]}: {remark}'
    for record in records
    for remark in (refusal(record['command'], root), age(record.get('commit') or '', root))
    if remark
  ]


def refusal(command: str, root: Path) -> str:
  """Returns why `command`, a `python launch.py train ...`, is refused; '' if it is accepted."""
  _, *words = shlex.split(command)
  done = subprocess.run(
    [sys.executable, *words, '--dry_run'],
    cwd=root,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  if not done.returncode:
    return ''
  last = done.stderr.strip().rpartition('\n')[2]
  return f'its command is refused now: {last.removeprefix("launch.py: ")}'


def age(commits: str, root: Path) -> str:
  """Returns how many commits have changed the code since; '' for none.

  Args:
    commits: at which it was measured, joined by ', ' where seeds differ; the first one counts.
    root: of the checkout.
  """
  commit = commits.partition(',')[0].partition(' ')[0]
  if not commit:
    return 'no commit is recorded with it'
  counted = subprocess.run(
    ['git', '-C', str(root), 'rev-list', '--count', f'{commit}..HEAD', '--', *CODE],
    capture_output=True,
    text=True,
    check=False,
  )
  if counted.returncode:
    return f'measured at {commit}, which is no commit here'
  count = int(counted.stdout)
  return f'measured at {commit}, {count} change{"s" * (count > 1)} to the code ago' if count else ''
