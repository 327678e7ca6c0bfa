"""A game in the report: each stone is there from its move to its capture."""

import re

from train.report import pictures
from train.report.boards import replay
from train.report.page import template

CAPTURE = """
.X.
...
...

.XO
...
...

.XO
..X
...

.XO
O.X
...

.X.
O.X
...

B+2.5
"""


def drawn(text):
  """The page's markup of a game."""
  return template('game.html').render(game=replay(text))


def spans(page, kind):
  """(x, y, from, to) of the circles of a kind."""
  circle = r'<circle cx="(\d)" cy="(\d)" r="[\d.]+" class="%s"[^>]*data-from="(\d)" data-to="(\d)"'
  return {tuple(map(int, found)) for found in re.findall(circle % kind, page)}


def test_stones_last_from_their_moves_to_their_capture():
  page = drawn(CAPTURE)
  assert spans(page, 'first') == {(1, 0, 1, 6), (2, 1, 3, 6)}
  assert spans(page, 'second') == {(2, 0, 2, 5), (0, 1, 4, 6)}
  assert spans(page, 'last') == {(1, 0, 1, 2), (2, 0, 2, 3), (2, 1, 3, 4), (0, 1, 4, 5)}
  assert 'max="5"' in page and 'after 5 moves: B+2.5' in page


def test_without_the_script_the_last_position_is_seen():
  shown = [c for c in re.findall('<circle[^>]*>', drawn(CAPTURE)) if 'display:none' not in c]
  assert len(shown) == 3 and not any('class="last"' in c for c in shown)


def test_what_is_no_game_stays_text():
  assert replay('once upon a time') is None
  assert replay('.X.\n...\n\n.X\n..\n\nX wins') is None
  assert replay('1 2\n3 4\n\ndraw') is None  # another game's board, whose pieces are no stones
  assert pictures.drawing('game.txt', b'no game').text == 'no game'
  assert pictures.drawing('game.txt', CAPTURE.encode()).game == replay(CAPTURE)
