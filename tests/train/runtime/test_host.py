"""Standard streams that are closed, full or without a reader."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
CODE = """
import logging, sys
from train.runtime import host
host.open_streams()
file = open(sys.argv[1], 'w')
print('a result')
for line in range(3000):
  print('a line', file=sys.stderr, flush=True)
logging.warning('to nobody')
assert sys.stdin.read() == '' and file.fileno() > 2
file.write('whole')
"""


def run(redirections, tmp_path):
  code, path = tmp_path / 'code.py', tmp_path / 'file'
  code.write_text(CODE)
  shell = f'PYTHONPATH={ROOT} {sys.executable} {code} {path} {redirections}'
  done = subprocess.run(['sh', '-c', shell], capture_output=True, text=True)
  return done.returncode, path.read_text(), done.stderr


@pytest.mark.parametrize('closed', ['>&- </dev/null', '2>&- <&-', '<&- >&- 2>&-'])
def test_what_is_closed_is_no_place_for_files(tmp_path, closed):
  status, contents, _ = run(closed, tmp_path)
  assert (status, contents) == (0, 'whole')


def test_messages_that_nobody_reads_end_nothing(tmp_path):
  redirections = '2>&1 >/dev/null </dev/null | head -c 20'
  assert run(redirections, tmp_path)[1] == 'whole'
