"""Boards as text, SVG and PNG: what is on them, and that both pictures show the same."""

import io
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from PIL import Image

from mcts.draw import diagram, shapes
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
  return diagram.diagram(
    stones,
    last=int(np.flatnonzero(stones)[0]),
    visits=visits,
    ownership=rng.uniform(-1, 1, (size, size)),
    line=[int(x) for x in empty[4:8]] + [size * size],
    to_play=1,
    title='Who < owns & what?',
  )


def test_svg_is_well_formed_and_says_what_is_seen():
  picture = everything()
  root = xml.etree.ElementTree.fromstring(shapes.svg(picture))
  texts = [x.text for x in root.iter('{http://www.w3.org/2000/svg}text')]
  assert texts[-2:] == ['Who < owns & what?', 'pass 2 %,  5: pass']
  assert texts.count('57') == 1 and texts.count('29') == 1 and '4' in texts  # shares, and a move
  assert texts.count('J') == 2 and 'I' not in texts


def test_png_looks_like_the_svg_says():
  picture = diagram.diagram(BOARD, last=19)
  image = np.asarray(Image.open(io.BytesIO(shapes.png(picture, scale=0.5))))
  assert image.shape == (round(picture.height / 2), round(picture.width / 2), 3)

  def colour(row, column):  # a little to the upper left of a point's middle
    y, x = ((v + 1.5) * diagram.CELL * 0.5 - 6 for v in (row, column))
    return image[int(y), int(x)].astype(int)

  assert colour(0, 1).max() < 60 and colour(3, 3).max() < 60
  assert colour(3, 4).min() > 230
  wood = [int(diagram.WOOD[i : i + 2], 16) for i in (1, 3, 5)]
  assert np.abs(colour(2, 2) - wood).max() < 12


def test_shapes_lie_inside_the_picture():
  picture = everything(19)
  for shape in picture.shapes:
    assert 0 <= shape.x <= picture.width and 0 <= shape.y <= picture.height


def test_ownership_marks_stones_that_are_the_others():
  owner = np.zeros((5, 5))
  owner[0, 1] = -0.9  # black's stone, white's point
  count = lambda picture: sum(isinstance(x, shapes.Box) for x in picture.shapes)  # noqa: E731
  assert count(diagram.diagram(BOARD, ownership=owner)) == count(diagram.diagram(BOARD)) + 2
  assert count(diagram.diagram(BOARD, ownership=-owner)) == count(diagram.diagram(BOARD))


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
    diagram.diagram(BOARD, **arguments)
  with pytest.raises(ValueError, match='must be N x N'):
    diagram.diagram(BOARD[:4])


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
