"""SGF files of Go (FF[4]), one at a time: parsed into records of one line of play, and written.

Actions are row * N + column with row 0 at the top, and N^2 for a pass; players are 0 for black and
1 for white. Whether moves are legal is for the rules to say, not for the reader.
"""

import codecs
import dataclasses
import os
import pathlib
import re

import numpy as np
from sgfmill import boards, sgf, sgf_grammar

from mcts.go.game import SIZES
from mcts.go.notation import BLACK, WHITE

COLOURS = 'bw'
STONES = (2.75, 3.75)  # the komi of Chinese rules, half of the points
# Properties that a `Record` has fields for, or that say nothing of the game; all others are tags.
FIELDS = {
  'GM', 'FF', 'CA', 'AP', 'SZ', 'KM', 'RE', 'HA', 'PB', 'PW', 'AB', 'AW', 'AE', 'PL', 'B', 'W', 'C',
}  # fmt: skip
# Chinese text in GB 2312: pairs of bytes, both high, so that none is a bracket or a backslash.
GB2312 = re.compile(rb'(?:[\x00-\x7f]|[\xa1-\xf7][\xa1-\xfe])*')

Source = bytes | str | os.PathLike
"""The content of a file as bytes, or its path."""


@dataclasses.dataclass
class Record:
  """One line of play of a game.

  Attributes:
    size: N.
    komi: 0 where the file has none.
    board: int8 `[N, N]`, stones set up before the first move, 1 black and -1 white; None for none.
    to_play: who has the first move.
    moves: (player, action) in turn; a player may move twice in a row.
    result: as in the file: 'B+R', 'W+3.5', '0', ''.
    handicap: as in the file; the stones themselves are on `board`.
    names: of black and of white.
    comments: by how many moves have been made: `comments[0]` is on the game as a whole.
    tags: other properties of the game as they are written: 'DT', 'EV', 'RU', ...
  """

  size: int = 19
  komi: float = 0.0
  board: np.ndarray | None = None
  to_play: int = BLACK
  moves: list[tuple[int, int]] = dataclasses.field(default_factory=list)
  result: str = ''
  handicap: int = 0
  names: tuple[str, str] = ('', '')
  comments: dict[int, str] = dataclasses.field(default_factory=dict)
  tags: dict[str, str] = dataclasses.field(default_factory=dict)


def read(source: Source) -> Record:
  """Returns the main line of the first game.

  Stones that are set up later begin the line anew from the board as it is then, since no move led
  there.

  Args:
    source: the content as bytes, or a path.

  Raises:
    ValueError: for what is not SGF of Go on a square board of size 2 to 25.
  """
  game = _games(source)[0]
  return _record(game, list(game.main_sequence_iter()))


def read_all(source: Source) -> list[Record]:
  """Returns every variation of every game, each from its beginning; main lines come first."""
  found = []
  for game in _games(source):
    open_lines = [[game.get_root()]]
    while open_lines:
      line = open_lines.pop()
      while len(line[-1]):
        open_lines += [[*line, child] for child in reversed(line[-1][1:])]
        line.append(line[-1][0])
      found.append(_record(game, line))
  return found


def stones(record: Record, moves: int | None = None) -> np.ndarray:
  """Returns int8 `[N, N]`, 1 black, -1 white: the board after so many moves, after all if None."""
  board = boards.Board(record.size)
  _set_up(board, record.board)
  for player, action in record.moves[:moves]:
    _play(board, player, action)
  return _array(board)


def winner(result: str) -> int:
  """Returns 1 if black has won, -1 if white, 0 for a draw and for what says neither."""
  match = re.match(r'\s*([BbWw])(?:lack|hite)?\s*\+', result)
  return 0 if match is None else {'b': 1, 'w': -1}[match[1].lower()]


def margin(result: str) -> float:
  """Returns by how many points the game was won; NaN if it was not counted."""
  if re.fullmatch(r'\s*(0|draw|jigo)\s*', result, re.IGNORECASE):
    return 0.0
  match = re.match(r'\s*[BbWw]\w*\s*\+\s*(\d+(?:\.\d+)?)', result)
  return float('nan') if match is None else float(match[1])


# -------- reading --------


def _games(source: Source) -> list[sgf.Sgf_game]:
  data = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
  text = re.sub(r'(?<![A-Za-z])SZ\[\s*(\d+)\s*(?::\s*\1\s*)?\]', r'SZ[\1]', decode(data))
  trees = sgf_grammar.parse_sgf_collection(text.encode('utf-8'))
  return [sgf.Sgf_game.from_coarse_game_tree(tree, 'UTF-8') for tree in trees]


def decode(data: bytes) -> str:
  """Returns a file's text, decoded by its byte-order mark, its CA property, or what it can be."""
  for mark, name in (
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
  ):
    if data.startswith(mark):
      return data.decode(name, 'replace')
  declared = re.search(rb'(?<![A-Za-z])CA\[\s*([\w.:-]+)\s*\]', data)
  names = [declared[1].decode('latin-1')] if declared else []
  if not data.isascii():  # what reads as UTF-8 is that, whatever it says
    names = ['utf-8', *names]
  if GB2312.fullmatch(data):
    names.append('gb18030')
  names.append('latin-1')  # the standard's default; another guess could take a bracket for a letter
  for name in names:
    try:
      return data.decode(name)
    except (LookupError, UnicodeDecodeError):
      continue
  raise AssertionError('latin-1 reads everything')


def _record(game: sgf.Sgf_game, nodes: list) -> Record:
  root, size = nodes[0], game.get_size()
  if root.has_property('GM') and _text(root, 'GM').strip() not in ('', '1'):
    raise ValueError(f'GM[{_text(root, "GM")}]: must be 1, Go')
  if size not in SIZES:
    raise ValueError(f'SZ[{size}]: must be from {SIZES[0]} to {SIZES[-1]}')
  record = Record(
    size=size,
    komi=komi(_text(root, 'KM')),
    result=_text(root, 'RE').strip(),
    handicap=_integer(_text(root, 'HA')),
    names=(_text(root, 'PB'), _text(root, 'PW')),
    tags={key: _text(root, key) for key in root.properties() if key not in FIELDS},
  )
  _follow(record, nodes)
  return record


def _follow(record: Record, nodes: list) -> None:
  turn = None
  for node in nodes:
    if node.has_setup_stones():
      record.board = _after_set_up(record, node)
      record.moves, record.comments, turn = [], {}, None
    if node.has_property('PL'):
      turn = COLOURS.find(_text(node, 'PL').strip().lower()[:1])
    if node.has_property('B') and node.has_property('W'):
      raise ValueError(f'move {len(record.moves) + 1}: both colours in one node')
    colour, raw = node.get_raw_move()
    if colour is not None:
      record.moves.append((COLOURS.index(colour), _action(raw, record.size)))
    if node.has_property('C'):
      record.comments[len(record.moves)] = _text(node, 'C')
  record.to_play = _first(record, turn)


def _first(record: Record, turn: int | None) -> int:
  """Returns who moves first; without moves whom PL names, else white after a handicap."""
  if record.moves:
    return record.moves[0][0]
  if turn in (BLACK, WHITE):
    return turn
  set_up = record.board is not None and (record.board > 0).any() and not (record.board < 0).any()
  return WHITE if set_up else BLACK


def _after_set_up(record: Record, node) -> np.ndarray:
  try:
    board = stones(record)
    for points, colour in zip(node.get_setup_stones(), (1, -1, 0), strict=True):
      for row, column in points:
        board[record.size - 1 - row, column] = colour
    _set_up(boards.Board(record.size), board)
  except (IndexError, ValueError) as error:
    raise ValueError(f'stones set up after move {len(record.moves)}: {error}') from None
  return board


def _action(raw: bytes, size: int) -> int:
  raw = raw.strip()
  if not raw or (raw == b'tt' and size <= 19):
    return size * size
  if len(raw) == 2:
    column, row = raw[0] - ord('a'), raw[1] - ord('a')
    if 0 <= column < size and 0 <= row < size:
      return row * size + column
  raise ValueError(f'move {raw.decode("utf-8", "replace")!r}: not on a board of size {size}')


def _text(node, key: str) -> str:
  """Returns a property's first value, unescaped; '' where there is none."""
  if not node.has_property(key):
    return ''
  return sgf_grammar.text_value(node.get_raw(key)).decode('utf-8')


def _integer(text: str) -> int:
  return int(text) if re.fullmatch(r'\s*\d{1,3}\s*', text) else 0


def komi(text: str) -> float:
  """Returns the number of a KM property, '6.5' or '6,5'; 0 where it is none."""
  try:
    value = float(text.strip().replace(',', '.'))
  except ValueError:
    return 0.0
  return value if abs(value) < 100_000 else 0.0


def komi_in_points(komi: float) -> float:
  """Returns a komi of foreign records in points.

  Some servers write it hundredfold (375, 650), or in stones of Chinese counting (3.75 for 7.5);
  other values are taken for what they are.
  """
  value = komi / 100 if komi / 100 in (*STONES, 4.5, 5.5, 6.5, 7.5) else komi
  return 2 * value if value in STONES else value


# -------- boards --------


def _set_up(board: boards.Board, array: np.ndarray | None) -> None:
  if array is None:
    return
  if array.shape != (board.side, board.side):
    raise ValueError(f'a board of shape {array.shape}: must be {board.side} x {board.side}')
  groups = [[(board.side - 1 - r, c) for r, c in np.argwhere(array == v)] for v in (1, -1)]
  if not board.apply_setup(*groups, []):
    raise ValueError('a chain has no liberty')


def _play(board: boards.Board, player: int, action: int) -> None:
  if action == board.side**2:
    return
  row, column = divmod(action, board.side)
  try:
    board.play(board.side - 1 - row, column, COLOURS[player])
  except ValueError:
    raise ValueError(f'a move to row {row}, column {column}: there is a stone') from None


def _array(board: boards.Board) -> np.ndarray:
  array = np.zeros((board.side, board.side), np.int8)
  for colour, (row, column) in board.list_occupied_points():
    array[board.side - 1 - row, column] = 1 if colour == 'b' else -1
  return array


# -------- writing --------


def write(*records: Record) -> str:
  """Returns a game as SGF, FF[4] and UTF-8; the first record is the main line, more are variations.

  The first record says what holds for the game.

  Raises:
    ValueError: if the records do not all begin from the same board.
  """
  first = records[0]
  game = sgf.Sgf_game(first.size)
  root = game.get_root()
  _write_tags(root, first)
  for record in records:
    if record.size != first.size or not np.array_equal(_start(record), _start(first)):
      raise ValueError('variations of one game must begin from the same board')
    node = root
    for played, (player, action) in enumerate(record.moves):
      node = _child(node, record, player, action)
      _comment(node, record.comments.get(played + 1))
  return game.serialise().decode('utf-8')


def _write_tags(root, record: Record) -> None:
  root.set_raw('KM', f'{record.komi:g}'.encode())
  texts = {'PB': record.names[0], 'PW': record.names[1], 'RE': record.result, **record.tags}
  for key, text in texts.items():
    if text:
      root.set_raw(key, sgf_grammar.escape_text(text.encode('utf-8')))
  if record.handicap:
    root.set('HA', record.handicap)
  if record.board is not None:
    board = boards.Board(record.size)
    _set_up(board, record.board)
    pairs = board.list_occupied_points()
    root.set_setup_stones(*({p for colour, p in pairs if colour == c} for c in COLOURS))
    root.set('PL', COLOURS[record.to_play])
  _comment(root, record.comments.get(0))


def _start(record: Record) -> np.ndarray:
  empty = np.zeros((record.size, record.size), np.int8)
  return empty if record.board is None else np.sign(record.board)


def _child(node, record: Record, player: int, action: int):
  """Returns the child with this move, a new one if there is none."""
  row, column = divmod(action, record.size)
  point = None if action == record.size**2 else (record.size - 1 - row, column)
  for child in node:
    if child.get_move() == (COLOURS[player], point):
      return child
  child = node.new_child()
  child.set_move(COLOURS[player], point)
  return child


def _comment(node, text: str | None) -> None:
  if text:
    node.set('C', text)
