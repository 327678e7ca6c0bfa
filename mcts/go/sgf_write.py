"""Records of games as SGF, FF[4] and UTF-8."""

import math

import numpy as np
from sgfmill import sgf, sgf_grammar

from mcts.go.notation import WHITE
from mcts.go.sgf_record import COLOURS, Record, set_up


def write(*records: Record) -> str:
  """Returns a game as SGF, FF[4] and UTF-8; the first record is the main line, more are variations.

  The first record says what holds for the game; comments of all are kept. As in all SGF, tabs
  become spaces and line ends newlines; half a surrogate pair becomes '?'.

  Raises:
    ValueError: if the records do not all begin from the same board, or komi is not finite.
  """
  first = records[0]
  game = sgf.Sgf_game(first.size)
  root = game.get_root()
  _write_header(root, first)
  children: dict[tuple[int, int, int], sgf.Tree_node] = {}  # of a node's id, by player and action
  for record in records:
    if record.size != first.size or not np.array_equal(_start(record), _start(first)):
      raise ValueError('variations of one game must begin from the same board')
    node = root
    _comment(node, record.comments.get(0))
    for played, (player, action) in enumerate(record.moves, 1):
      key = id(node), player, action
      if key not in children:
        children[key] = _child(node, record.size, player, action)
      node = children[key]
      _comment(node, record.comments.get(played))
  return game.serialise().decode('utf-8')


def _write_header(root, record: Record) -> None:
  if not math.isfinite(record.komi):
    raise ValueError(f'komi {record.komi}: must be finite')
  root.set_raw('KM', np.format_float_positional(record.komi, trim='-').encode())
  texts = {'PB': record.names[0], 'PW': record.names[1], 'RE': record.result, **record.tags}
  for key, text in texts.items():
    if text:
      root.set_raw(key, _escaped(text))
  if record.handicap:
    root.set('HA', record.handicap)
  if record.board is not None:
    pairs = set_up(record.size, record.board).list_occupied_points()
    root.set_setup_stones(*({p for colour, p in pairs if colour == c} for c in COLOURS))
  if record.board is not None or record.to_play == WHITE:
    root.set('PL', COLOURS[record.to_play])


def _start(record: Record) -> np.ndarray:
  empty = np.zeros((record.size, record.size), np.int8)
  return empty if record.board is None else np.sign(record.board)


def _child(node, size: int, player: int, action: int):
  """Returns a new child with this move."""
  row, column = divmod(action, size)
  child = node.new_child()
  child.set_move(COLOURS[player], None if action == size**2 else (size - 1 - row, column))
  return child


def _comment(node, text: str | None) -> None:
  if not text:
    return
  if not node.has_property('C'):
    node.set_raw('C', _escaped(text))
  elif node.get_raw('C') != _escaped(text):  # another variation's
    node.add_comment_text(text)


def _escaped(text: str) -> bytes:
  return sgf_grammar.escape_text(text.encode('utf-8', 'replace'))
