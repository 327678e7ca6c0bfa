"""SGF files of Go (FF[4]): parsed into records of one line of play each, and written.

`Record` says what a record holds; `mcts.go.sgf_syntax` how bytes become nodes and properties.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from sgfmill import sgf_grammar

from mcts.go.game import SIZES as SIZES
from mcts.go.notation import BLACK as BLACK
from mcts.go.notation import WHITE as WHITE
from mcts.go.sgf_record import COLOURS, replay, set_up
from mcts.go.sgf_record import Record as Record
from mcts.go.sgf_record import komi as komi
from mcts.go.sgf_record import komi_in_points as komi_in_points
from mcts.go.sgf_record import margin as margin
from mcts.go.sgf_record import stones as stones
from mcts.go.sgf_record import winner as winner
from mcts.go.sgf_syntax import Node, content, decode, games, shown
from mcts.go.sgf_write import write as write

MAX_TOTAL = 1 << 24  # moves of all variations of a file together
SETUP = {'AB': 1, 'AW': -1, 'AE': 0}
INFO = ('KM', 'RE', 'HA', 'PB', 'PW')  # in any node of a line, but once
MOVE = {'B', 'W', 'C'}
# Properties that a `Record` has fields for, or that say nothing of the game; all others are tags.
FIELDS = {'GM', 'FF', 'CA', 'AP', 'SZ', 'PL', *MOVE, *INFO, *SETUP}

Source = bytes | str | os.PathLike
"""The content of a file as bytes, or its path."""


def read(source: Source) -> Record:
  """Returns the main line of the first game.

  Stones or a player (PL) that are set up later begin the line anew from the board as it is then,
  since no move led there; a note says so.

  Args:
    source: the content as bytes, or a path.

  Raises:
    OSError: for a file that cannot be read.
    ValueError: for what is not SGF of Go on a square board of size 2 to 25.
  """
  with _naming(source):
    found = next(main_lines(source))
    if isinstance(found, ValueError):
      raise found
    return found


def main_lines(source: Source) -> Iterator[Record | ValueError]:
  """Yields the main line of each game, or why it cannot be read; at least one of the two."""
  text, note = decode(content(source))
  game = None
  for game in games(text):
    try:
      variations = game.variations()
      line = _Line(note)
      line.follow(0, next(variations)[1])
      for _ in variations:  # to the end of the game
        pass
      yield line.record(game.rest)
    except ValueError as error:
      yield error
  if game is None:
    yield _no_game(text)


def read_all(source: Source) -> list[Record]:
  """Returns every variation of every game, each from its beginning; main lines come first.

  Raises:
    OSError, ValueError: as `read`; also if they have over 16 million moves together.
  """
  found: list[Record] = []
  total = 0
  with _naming(source):
    text, note = decode(content(source))
    for game in games(text):
      line, first = _Line(note), len(found)
      for shared, nodes in game.variations():
        line.follow(shared, nodes)
        found.append(line.record())
        total += len(found[-1].moves)
        if total > MAX_TOTAL:
          raise ValueError(f'variations of more than {MAX_TOTAL} moves together')
      for record in found[first:] if game.rest else ():
        record.notes += (_not_read(game.rest),)
    if not found:
      raise _no_game(text)
  return found


def _no_game(text: str) -> ValueError:
  return ValueError('no SGF: no game begins with "(;"' if text.strip() else 'no SGF: it is empty')


@contextlib.contextmanager
def _naming(source: Source) -> Iterator[None]:
  try:
    yield
  except ValueError as error:
    if isinstance(source, bytes):
      raise
    raise ValueError(f'{shown(os.fsdecode(source), 100)[1:-1]}: {error}') from None


# -------- a line of play --------


class _At(NamedTuple):
  """Where a line of play is after a node.

  Attributes:
    num_moves, num_comments: how many of the line's there are up to here.
    first_move, first_comment: from which on they count, as stones were set up there.
    board: int8 `[N, N]` before the first move, None for an empty one.
    turn: whom PL names, None for no one.
    info: the properties `INFO` that there were.
    notes: as in `Record`.
  """

  num_moves: int = 0
  num_comments: int = 0
  first_move: int = 0
  first_comment: int = 0
  board: np.ndarray | None = None
  turn: int | None = None
  info: Mapping[str, str] = {}
  notes: tuple[str, ...] = ()


class _Line:
  """The game along a path through its tree; the next path begins where the two fork."""

  def __init__(self, note: str):
    self.begin = _At(notes=(note,) if note else ())
    self.after: list[_At] = []  # each node
    self.moves: list[tuple[int, int]] = []
    self.comments: list[tuple[int, str]] = []  # how many moves were made before, and the text
    self.root: Node = {}
    self.size = 0

  def follow(self, shared: int, nodes: list[Node]) -> None:
    """Goes along these nodes, of which the first `shared` are those of the path before."""
    if not shared:
      self.root, self.size = nodes[0], _size(nodes[0])
    del self.after[shared:]
    at = self.after[-1] if shared else self.begin
    del self.moves[at.num_moves :]
    del self.comments[at.num_comments :]
    for node in nodes[shared:]:
      if node.keys() - MOVE:
        at = self._with_info(self._set_up(at, node), node)
      self._move(at, node)
      if 'C' in node:
        self.comments.append((len(self.moves), _text(node, 'C')))
      at = at._replace(num_moves=len(self.moves), num_comments=len(self.comments))
      self.after.append(at)

  def _set_up(self, at: _At, node: Node) -> _At:
    player = _text(node, 'PL').strip()
    turn = COLOURS.find(player.lower()[:1] or '?')
    if player and turn < 0:
      at = at._replace(notes=(*at.notes, f'PL[{_quoted(player)}]: no player'))
    out_of_turn = turn >= 0 and at.num_moves > at.first_move and turn == self.moves[-1][0]
    if SETUP.keys() & node.keys() or out_of_turn:
      made = at.num_moves - at.first_move
      note = f'stones or a player set up after move {made}: the game begins there'
      at = at._replace(
        first_move=at.num_moves,
        first_comment=at.num_comments,
        board=self._after_set_up(at, node),
        turn=None,
        notes=(*at.notes, note) if made else at.notes,
      )
    return at._replace(turn=turn) if turn >= 0 else at

  def _after_set_up(self, at: _At, node: Node) -> np.ndarray:
    try:
      board = replay(self.size, at.board, self.moves[at.first_move :])
      seen: set[int] = set()
      for key, colour in SETUP.items():
        points = _points(node.get(key, []), self.size)
        if seen & points:
          raise ValueError('a point is set up twice')
        board.flat[list(points)] = colour
        seen |= points
      set_up(self.size, board)
    except ValueError as error:
      made = at.num_moves - at.first_move
      raise ValueError(f'stones set up after move {made}: {error}') from None
    return board

  def _with_info(self, at: _At, node: Node) -> _At:
    if 'SZ' in node and _size(node) != self.size:  # games that were merged as variations
      raise ValueError(f'SZ[{_quoted(_text(node, "SZ"))}] within a game of size {self.size}')
    found = {key: _text(node, key) for key in INFO if key in node}
    return at._replace(info={**found, **at.info}) if found else at

  def _move(self, at: _At, node: Node) -> None:
    played = [(key, value) for key in 'BW' for value in node.get(key, ())]
    number = len(self.moves) - at.first_move + 1
    if len({key for key, _ in played}) > 1:
      raise ValueError(f'move {number}: both colours in one node')
    if len(played) > 1:
      raise ValueError(f'move {number}: {len(played)} points in one node')
    for key, value in played:
      try:
        self.moves.append(('BW'.index(key), _action(value, self.size)))
      except ValueError as error:
        raise ValueError(f'move {error} (turn {number})') from None

  def record(self, rest: str = '') -> Record:
    """Returns the line up to here; `rest` is what follows the game."""
    at = self.after[-1] if self.after else self.begin
    comments: dict[int, str] = {}
    for number, text in self.comments[at.first_comment :]:
      before = comments.get(number - at.first_move)
      comments[number - at.first_move] = f'{before}\n\n{text}' if before else text
    record = Record(
      size=self.size,
      komi=komi(at.info.get('KM', '')),
      board=at.board,
      moves=self.moves[at.first_move :],
      result=at.info.get('RE', '').strip(),
      handicap=_integer(at.info.get('HA', '')),
      names=(at.info.get('PB', ''), at.info.get('PW', '')),
      comments=comments,
      tags={
        k: _text(self.root, k) for k, v in self.root.items() if k not in FIELDS and len(v) == 1
      },
    )
    record.to_play = _first(record, at.turn)
    record.notes = (*at.notes, *_notes(record, at.info, rest))
    return record


def _first(record: Record, turn: int | None) -> int:
  """Returns who moves first; without moves whom PL names, else white after a handicap."""
  if record.moves:
    return record.moves[0][0]
  if turn is not None:
    return turn
  set_up = record.board is not None and (record.board > 0).any() and not (record.board < 0).any()
  return WHITE if set_up else BLACK


def _notes(record: Record, info: Mapping[str, str], rest: str) -> Iterator[str]:
  points, stones_set_up = info.get('KM', '').strip(), record.board is not None
  if points and not komi(points) and not re.fullmatch(r'[-+]?[0.,]+', points):
    yield f'KM[{_quoted(points)}]: no number, so komi is 0'
  handicap = info.get('HA', '').strip()
  if handicap and not handicap.isdecimal():
    yield f'HA[{_quoted(handicap)}]: no number'
  if record.handicap > 1 and not stones_set_up:
    yield f'HA[{record.handicap}], but no stones are set up'
  if rest:
    yield _not_read(rest)


def _not_read(rest: str) -> str:
  return f'{shown(rest)} after the game is not read'


# -------- properties --------


def _size(root: Node) -> int:
  if _text(root, 'GM').strip() not in ('', '1'):
    raise ValueError(f'GM[{_quoted(_text(root, "GM"))}]: must be 1, Go')
  text = ']['.join(value.strip() for value in root.get('SZ', ['19']))
  match = re.fullmatch(r'(\d{1,4})(?:\s*:\s*(\d{1,4}))?', text, re.ASCII)
  if not match or int(match[2] or match[1]) != int(match[1]):
    raise ValueError(f'SZ[{_quoted(text)}]: must be one number, as boards are square')
  if int(match[1]) not in SIZES:
    raise ValueError(f'SZ[{_quoted(text)}]: must be from {SIZES[0]} to {SIZES[-1]}')
  return int(match[1])


def _action(text: str, size: int) -> int:
  text = text.strip()
  return size * size if not text or (text == 'tt' and size <= 19) else _point(text, size)


def _points(values: list[str], size: int) -> set[int]:
  """Returns the points of a list of stones, in which 'aa:cc' is a rectangle."""
  found = set()
  for value in {value.strip() for value in values} - {''}:
    first, _, last = value.partition(':')
    (top, left), (bottom, right) = (divmod(_point(x, size), size) for x in (first, last or first))
    rows = range(min(top, bottom), max(top, bottom) + 1)
    columns = range(min(left, right), max(left, right) + 1)
    found |= {row * size + column for row in rows for column in columns}
  return found


def _point(text: str, size: int) -> int:
  if len(text) == 2:
    column, row = (ord(letter) - ord('a') for letter in text)
    if 0 <= column < size and 0 <= row < size:
      return row * size + column
  raise ValueError(f'{shown(text)}: not on a board of size {size}')


def _text(node: Node, key: str) -> str:
  """Returns a property's first value, unescaped; '' where there is none."""
  return sgf_grammar.text_value(node[key][0].encode()).decode() if key in node else ''


def _integer(text: str) -> int:
  return int(text) if re.fullmatch(r'\s*\d{1,3}\s*', text, re.ASCII) else 0


def _quoted(text: str) -> str:
  return shown(text)[1:-1]
