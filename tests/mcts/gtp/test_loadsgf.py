"""`loadsgf`: any file is loaded or refused with a reason, and what is not kept is said."""

import os

import pytest

from tests.mcts.gtp.gtp_talk import talk


@pytest.fixture
def load(tmp_path):
  """Returns the response to `loadsgf` of a file with this content."""

  def load(content, *lines):
    path = tmp_path / 'game.sgf'
    path.write_bytes(content)
    responses = [x.replace(f'{path}', 'FILE') for x in talk(f'loadsgf {path}', *lines)]
    return responses if lines else responses[0]

  return load


@pytest.mark.parametrize(
  ('text', 'player'),
  [('PL[W]', 'white'), ('PL[B]', 'black'), ('PL[B]AB[aa]', 'black'), ('AB[aa]', 'white')]
  + [(';B[aa];PL[B]', 'black'), (';B[aa];PL[W]', 'white'), (';B[aa];B[bb]', 'white')],
)
def test_whose_turn_it_is(load, text, player):
  assert load(f'(;SZ[5]KM[7.5]{text})'.encode()) == f'= {player}'


@pytest.mark.parametrize(
  ('text', 'why'),
  [
    ('', 'FILE: no SGF: it is empty'),
    ('(;SZ[5];B[aa]', 'FILE: cut short: the file ends within the game'),
    ('(;SZ[5];B[aa];W[aa])', 'move 2: A5 is illegal for white by area, positional ko'),
    ('(;SZ[5]AB[aa]AW[ab][ba])', 'FILE: stones set up after move 0: a chain has no liberty'),
    ('(;GM[\x1b[31m\n])', r'FILE: GM[\x1b[31m\n]: must be 1, Go'),
    ('(;SZ[5]' + ';B[];W[]' * 99 + ')', '198 moves: must be fewer than 150'),
  ],
)
def test_why_a_file_is_refused(load, text, why):
  assert load(text.encode(), 'name')[0] == f'? cannot load file: {why}'
  assert load(b'(;SZ[5]KM[5.00000001])').startswith('? cannot load file: komi 5.00000001: must be')


def test_what_is_no_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'large').write_bytes(b'(;')
  os.truncate(tmp_path / 'large', 2 << 30)
  found = talk('loadsgf /dev/zero', *(f'loadsgf {tmp_path}/{x}' for x in ('pipe', 'large', 'none')))
  assert (
    found[0] == '? cannot load file: /dev/zero: must be a file, not a folder, a device or a pipe'
  )
  assert found[1].endswith('must be a file, not a folder, a device or a pipe')
  assert found[2].endswith('2048 MiB: must be at most 64 MiB')
  assert found[3] == '? cannot load file'


def test_what_is_not_kept_and_a_new_komi_are_said(load, capsys):
  assert load(b'(;SZ[5]KM[0.5]HA[2];W[aa])', 'get_komi') == ['= black', '= 0.5']
  said = capsys.readouterr().err
  assert 'loadsgf: komi is 0.5 from now on' in said
  assert 'loadsgf: HA[2], but no stones are set up' in said
  load(b'(;SZ[5]KM[7.5]RU[Japanese\x1b])')
  assert capsys.readouterr().err == 'loadsgf: RU[Japanese ]: played by area, positional ko\n'
  load(b'(;SZ[5]KM[7.5]RU[area, positional ko])')
  assert capsys.readouterr().err == ''


def test_a_size_that_cannot_be_is_refused(load):
  assert load(b'(;SZ[26])') == '? cannot load file: FILE: SZ[26]: must be from 2 to 25'
