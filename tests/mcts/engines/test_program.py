"""Another program over GTP: what is said of one that dies."""

import shlex
import sys

import pytest

from mcts.engines.program import GtpProgram, ProgramError


def program(code):
  return GtpProgram(f'{shlex.quote(sys.executable)} -S -c {shlex.quote(code)}', timeout=20)


def test_a_dead_program_s_status_and_last_words_are_told():
  dead = program(
    'import sys; input(); print("\\nweights: no such file", file=sys.stderr); sys.exit(3)'
  )
  with pytest.raises(ProgramError, match=r"died at 'name' \(status 3: weights: no such file\)"):
    dead.send('name')
  dead.close()


def test_only_the_end_of_what_it_wrote_is_repeated():
  dead = program(
    'import sys; input(); [print("x" * 10_000, i, file=sys.stderr) for i in range(1000)]'
  )
  with pytest.raises(ProgramError) as caught:
    dead.send('name')
  assert len(str(caught.value)) < 1000
  dead.close()


def test_a_program_that_writes_much_to_stderr_does_not_stop():
  """A pipe that nobody reads is full after 64 kB."""
  talker = program(
    'import sys\nfor line in sys.stdin:\n'
    '  print("y" * 200_000, file=sys.stderr)\n  print("= ok\\n", flush=True)'
  )
  assert [talker.send('name') for _ in range(3)] == ['ok'] * 3
  talker.close()
