"""The positions of docs/go_rules.md, played as it says there, by our rules and by the referee."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts.go import Go
from mcts.go.notation import COLOURS, from_vertex
from tests.mcts.go.go_referee import Referee

DOCUMENT = pathlib.Path(__file__).parents[3] / 'docs' / 'go_rules.md'
SIGN = {'X': 1, 'O': -1, '.': 0, '-': 0}


def positions():
  """(heading, lines) of each position in the document."""
  text = DOCUMENT.read_text()
  for match in re.finditer(r'^```go\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
    heading = re.findall(r'^#+ (.*)$', text[: match.start()], re.MULTILINE)[-1]
    yield pytest.param(match[1].splitlines(), id=heading.lower().replace(' ', '-'))


def read_board(lines):
  """The rows at the head of `lines` as numbers; removes them."""
  rows = []
  while lines and re.fullmatch(r'[XO.-]( [XO.-])*', lines[0]):
    rows.append([SIGN[x] for x in lines.pop(0).split()])
  return rows


@functools.cache
def compiled(size, **options):
  game = Go(size, **options)
  return game, *map(jax.jit, (game.step, game.legal, game.ownership, game.score))


class Position:
  """A position of the document, in our state and before the referee."""

  def __init__(self, lines):
    lines = list(lines)
    board = read_board(lines)
    self.size = len(board)
    fields = dict(line.split(': ', 1) for line in lines if ': ' in line)
    options = dict(pair.split('=') for pair in fields.get('rules', '').split())
    options['suicide'] = bool(options.get('suicide'))
    game, self.step, self.legal, self.ownership, self.score = compiled(self.size, **options)
    first = COLOURS.index(fields.get('to play', 'black'))
    self.game, self.state = game, game.from_position(np.array(board), to_play=first, komi=0)
    stones = {(r, c): int(x < 0) for r, row in enumerate(board) for c, x in enumerate(row) if x}
    self.referee = Referee(self.size, **options, stones=stones, first=first)
    self.lines = lines

  def check(self):
    while self.lines:
      key, value = re.fullmatch(r'([a-z ]+):(.*)', self.lines.pop(0)).groups()
      getattr(self, f'check_{key.replace(" ", "_")}')(value.strip())

  def check_to_play(self, value):
    assert value in COLOURS

  def check_rules(self, value):
    assert value

  def check_moves(self, value):
    for name in value.split():
      self.check_legal(name)
      action = from_vertex(name, self.size)
      self.state = self.step(self.state, jnp.int32(action))
      self.referee.play(action)

  def check_legal(self, value, expected=True):
    mask = self.legal(self.state)
    assert mask.tolist() == self.referee.mask()
    for name in value.split():
      assert mask[from_vertex(name, self.size)] == expected, name

  def check_illegal(self, value):
    self.check_legal(value, expected=False)

  def check_board(self, _):
    board = read_board(self.lines)
    assert self.game.board(self.state).tolist() == board == self.referee.board()

  def check_owner(self, _):
    owner = read_board(self.lines)
    assert self.ownership(self.state).tolist() == owner == self.referee.ownership()

  def check_score(self, value):
    assert float(self.score(self.state)) == float(value)
    assert float(value) == sum(map(sum, self.referee.ownership()))


@pytest.mark.long
@pytest.mark.parametrize('lines', list(positions()))
def test_position_of_the_document(lines):
  Position(lines).check()


def test_the_document_has_the_known_traps():
  names = {param.id for param in positions()}
  assert names >= {
    'triple-ko',
    'send-two,-return-one',
    'snapback',
    'capture-of-several-chains-at-once',
    'suicide-of-a-group',
    'superko-by-a-pass',
    'a-full-board',
    'a-chain-touched-on-two-sides',
  }
