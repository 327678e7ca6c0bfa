"""Another program over GTP: what is said of one that dies."""

import shlex
import sys

import pytest

from mcts.engines import program as program_lib
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


@pytest.mark.parametrize(
  ('reply', 'fault'),
  [
    ('print("=12 d4\\n")', "answered 'name' with the id 12, which it was not given"),
    ('print("hello")', "answered 'name' with 'hello'"),
    ('print("? no\\x1b[31m\\n")', r"refused 'name': no \[31m"),
    ('sys.stdout.write("=" + "x" * 10**6)', "answered 'name' with a line of over 65535"),
    ('print("= a\\n" + "b\\n" * 10**5)', "answered 'name' with more than 1000 lines"),
    ('print("\\n" * 10**4); sys.stderr.write("stuck\\n")', r"silent after 'name'.*stuck"),
  ],
)
def test_what_is_no_answer_is_told(reply, fault):
  code = f'import sys, time; input(); {reply}; sys.stdout.flush(); time.sleep(60)'
  rogue = program(code)
  with pytest.raises(ProgramError, match=fault):
    rogue.send('name', 3.0)
  rogue._process.kill()
  rogue.close()


def test_an_endless_program_takes_no_memory(monkeypatch):
  monkeypatch.setattr(program_lib, 'QUIT_TIMEOUT', 0.2)
  endless = program('import sys\nwhile True: sys.stdout.write("y" * 10**5 + "\\n")')
  with pytest.raises(ProgramError):
    endless.send('name', 3.0)
  assert endless._lines.qsize() <= program_lib.MOST_LINES
  assert 'was killed, as it still ran' in endless.close()


def test_how_a_program_ends_is_told():
  good = program('while input() != "quit": print("= ok\\n", flush=True)')
  assert good.send('name') == 'ok' and good.close() == '' and good._process.returncode == 0
  bad = program('import sys; input(); print("no room", file=sys.stderr); sys.exit(5)')
  assert bad.close() == 'ended badly at quit (status 5: no room)'


def test_our_own_server_ends_at_quit_and_is_not_killed():
  code = "from mcts.gtp import server; from mcts.engines import make; server.play(make('random'))"
  own = GtpProgram(f'{shlex.quote(sys.executable)} -c {shlex.quote(code)}', timeout=200)
  assert own.send('protocol_version') == '2'
  assert own.close() == '' and own._process.returncode == 0
