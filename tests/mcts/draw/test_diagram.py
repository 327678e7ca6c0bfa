"""Boards as text, SVG and PNG: what is on them, and that both pictures show the same."""

import io
import re
import runpy
import xml.etree.ElementTree

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from mcts.draw import diagram
from mcts.go import notation, sgf

BOARD = np.zeros((5, 5), np.int8)
BOARD[0, 1], BOARD[3, 4], BOARD[3, 3] = 1, -1, 1


def test_text():
  assert notation.render(BOARD, last=19) == (
    '   A B C D E\n'
    ' 5 . X . . . 5\n'
    ' 4 . . . . . 4\n'
    ' 3 . . . . . 3\n'
    ' 2 . . . X(O)2\n'
    ' 1 . . . . . 1\n'
    '   A B C D E'
  )
  plain = '.X...\n.....\n.....\n...XO\n.....'
  assert notation.render(BOARD, last=19, coordinates=False) == plain
  assert '(' not in notation.render(BOARD) and '(' not in notation.render(BOARD, last=25)


def test_text_has_no_letter_i_and_lines_up_on_large_boards():
  lines = notation.render(np.zeros((25, 25), int), last=0).splitlines()
  assert lines[0].split() == list('ABCDEFGHJKLMNOPQRSTUVWXYZ')
  assert lines[1].startswith('25(.). ') and lines[-2].startswith(' 1 . ')
  assert {line.index('.') for line in lines[1:-1]} == {3}


def everything(size=9):
  rng = np.random.default_rng(0)
  stones = rng.integers(-1, 2, (size, size)) * (rng.random((size, size)) < 0.4)
  empty = np.flatnonzero(stones.reshape(-1) == 0)
  visits = np.zeros(size * size + 1)
  visits[empty[:6]] = [500, 250, 100, 5, 1, 0.5]
  visits[-1] = 20
  return diagram.draw(
    stones,
    last=int(np.flatnonzero(stones)[0]),
    visits=visits,
    ownership=rng.uniform(-1, 1, (size, size)),
    line=[int(x) for x in empty[4:8]] + [size * size],
    to_play=1,
    title='Who < owns $&$ what?',
  )


def test_svg_is_well_formed_and_says_what_is_seen():
  picture = everything()
  svg = diagram.encode(picture, 'svg')
  root = xml.etree.ElementTree.fromstring(svg)
  texts = [x.text for x in root.iter('{http://www.w3.org/2000/svg}text')]
  assert {'Who < owns $&$ what?', 'pass 2 %,  5: pass'} <= set(texts)
  assert texts.count('57') == 1 and texts.count('29') == 1 and '4' in texts  # shares, and a move
  assert texts.count('J') == 2 and 'I' not in texts


def test_png_looks_like_the_svg_says():
  picture = diagram.draw(BOARD, last=19)
  image = np.asarray(Image.open(io.BytesIO(diagram.encode(picture))).convert('RGB'))
  assert image.shape == (7 * diagram.CELL, 7 * diagram.CELL, 3)

  def colour(row, column):  # a little to the upper left of a point's middle
    y, x = ((v + 1.5) * diagram.CELL - 10 for v in (row, column))
    return image[int(y), int(x)].astype(int)

  assert colour(0, 1).max() < 60 and colour(3, 3).max() < 60
  assert colour(3, 4).min() > 230
  wood = [int(diagram.WOOD[i : i + 2], 16) for i in (1, 3, 5)]
  assert np.abs(colour(2, 2) - wood).max() < 12


def test_all_that_is_drawn_lies_inside_the_picture():
  picture = everything(19)
  [axes] = picture.axes
  width, height = picture.bbox.size
  for shape in [*axes.patches, *axes.texts]:
    left, bottom, right, top = shape.get_window_extent().extents
    assert left >= 0 and bottom >= 0 and right <= width and top <= height


def test_a_picture_is_the_same_file_each_time():
  for kind in ('png', 'svg'):
    assert diagram.encode(everything(), kind) == diagram.encode(everything(), kind)


def test_ownership_marks_stones_that_are_the_others():
  owner = np.zeros((5, 5))
  owner[0, 1] = -0.9  # black's stone, white's point
  count = lambda picture: sum(isinstance(x, Rectangle) for x in picture.axes[0].patches)  # noqa: E731
  assert count(diagram.draw(BOARD, ownership=owner)) == count(diagram.draw(BOARD)) + 1
  assert count(diagram.draw(BOARD, ownership=-owner)) == count(diagram.draw(BOARD))


def test_star_points():
  assert len(diagram.star_points(19)) == 9 and len(diagram.star_points(9)) == 5
  assert len(diagram.star_points(13)) == 5 and len(diagram.star_points(8)) == 4
  assert diagram.star_points(2) == []


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'visits': np.zeros(25)}, r'visits of shape \(25,\): must be \[26\]'),
    ({'ownership': np.zeros(25)}, 'ownership of shape'),
  ],
)
def test_wrong_shapes(arguments, message):
  with pytest.raises(ValueError, match=message):
    diagram.draw(BOARD, **arguments)
  with pytest.raises(ValueError, match='must be N x N'):
    diagram.draw(BOARD[:4])


def test_command(tmp_path, capsys):
  game = tmp_path / 'game.sgf'
  game.write_bytes(b'(;SZ[5]PB[Ann]PW[Ben];B[aa];W[ba];B[ee];W[ab])')
  diagram.main([str(game)])
  assert capsys.readouterr().out.splitlines()[1:3] == [' 5 . O . . . 5', ' 4(O). . . . 4']
  diagram.main([str(game), '--move=0'])
  assert 'X' not in capsys.readouterr().out
  for name in ('a.svg', 'b/c.png'):
    diagram.main([str(game), '--move=3', f'--output={tmp_path / name}'])
    assert (tmp_path / name).stat().st_size > 1000
  assert re.search('Ann - Ben, after move 3', (tmp_path / 'a.svg').read_text())


def test_control_characters_of_a_header_reach_no_picture_and_no_terminal(tmp_path, capsys):
  game, picture = tmp_path / 'game.sgf', tmp_path / 'board.svg'
  game.write_bytes('(;SZ[5]PB[\x1b\\[31m\u202ered\x9b]PW[<b>&"\'];KM[\x1b\\[2J];B[aa])'.encode())
  diagram.main([str(game), f'--output={picture}'])
  root = xml.etree.ElementTree.parse(picture).getroot()
  titles = [x.text for x in root.iter('{http://www.w3.org/2000/svg}text')]
  assert ' [31m red  - <b>&"\', after move 1' in titles
  diagram.main([str(game)])
  shown = capsys.readouterr()
  assert 'mcts.draw: KM[\\x1b[2J]: no number, so komi is 0' in shown.err
  assert '\x1b' not in shown.out + shown.err


def test_what_the_font_lacks_is_said_once(tmp_path, capsys):
  game = tmp_path / 'game.sgf'
  game.write_bytes('(;SZ[5]PB[\U00013080\U00013081];B[aa])'.encode())
  diagram.main([str(game), f'--output={tmp_path / "board.png"}'])
  assert capsys.readouterr().err == 'mcts.draw: the font lacks 2 characters of the title\n'


def test_the_package_is_the_command(tmp_path, capsys, monkeypatch):
  (tmp_path / 'game.sgf').write_text('(;SZ[5];B[aa])')
  monkeypatch.setattr('sys.argv', ['draw', str(tmp_path / 'game.sgf')])
  runpy.run_module('mcts.draw', run_name='__main__')
  assert ' 5(X). . . . 5' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--move=5'], r'--move=5: the game has 4 moves'),
    (['--move=-1'], r'--move=-1: the game has 4 moves'),
    (['--output=x.gif'], r"'x.gif': must end in .svg or .png"),
  ],
)
def test_command_says_what_is_wrong(arguments, message, tmp_path):
  game = tmp_path / 'game.sgf'
  game.write_text(sgf.write(sgf.Record(5, moves=[(0, 0), (1, 1), (0, 24), (1, 5)])))
  with pytest.raises(SystemExit, match=message):
    diagram.main([str(game), *arguments])
  with pytest.raises(SystemExit, match='No such file'):
    diagram.main(['absent.sgf'])
