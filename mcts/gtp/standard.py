"""The standard's commands about the game, and those of GNU Go, GoGui and KGS that belong to them.

Each is a function of the session and the words behind the command's name; see `commands.py`.
"""

import numpy as np

from mcts.engines import clock
from mcts.go import handicap, notation, sgf
from mcts.go.notation import COLOURS, WHITE, result, to_vertex
from mcts.go.position import Illegal
from mcts.gtp.protocol import CommandFailure, to_action, to_float, to_int, to_player
from mcts.gtp.session import Session

# -------- setup commands (section 6.3.2) --------


def boardsize(session: Session, size: str) -> None:
  """`boardsize N`: begins a new game on a board of that size."""
  number = to_int(size)
  _check_size(session, number)
  session.begin(session.empty_position(number, session.position.komi))


def query_boardsize(session: Session) -> str:
  """`query_boardsize` (GNU Go): returns the size of the board."""
  return str(session.position.size)


def clear_board(session: Session) -> None:
  """`clear_board`: begins a new game."""
  session.position.clear()
  session.reset_clocks()


def komi(session: Session, points: str) -> None:
  """`komi POINTS`: changes the komi."""
  session.position.set_komi(to_float(points))


def get_komi(session: Session) -> str:
  """`get_komi` (GNU Go): returns the komi."""
  return f'{session.position.komi:g}'


def fixed_handicap(session: Session, number: str) -> str:
  """`fixed_handicap N`: places stones as section 4.1.1 says; returns their vertices."""
  stones, size = to_int(number), session.position.size
  _check_empty(session)
  if not 2 <= stones <= handicap.most_fixed(size):
    raise CommandFailure('invalid number of stones')
  return _place_handicap(session, handicap.fixed(size, stones))


def place_free_handicap(session: Session, number: str) -> str:
  """`place_free_handicap N` (section 4.1.2): places stones; returns their vertices."""
  stones, size = to_int(number), session.position.size
  _check_empty(session)
  if not 2 <= stones < size * size:
    raise CommandFailure('invalid number of stones')
  return _place_handicap(session, handicap.free(size, stones))


def set_free_handicap(session: Session, *vertices: str) -> None:
  """`set_free_handicap VERTEX ...` (section 4.1.2): places stones where the controller says."""
  _check_empty(session)
  size = session.position.size
  points = [to_action(text, size, 'bad vertex list') for text in vertices]
  wrong = size * size in points or len(set(points)) < len(points)
  if wrong or not 2 <= len(points) < size * size:
    raise CommandFailure('bad vertex list')
  _place_handicap(session, points)


def _check_size(session, size):
  if size not in session.engine.sizes:
    raise CommandFailure('unacceptable size')


def _check_empty(session):
  if session.position.board.any() or session.position.turns:
    raise CommandFailure('board not empty')


def _place_handicap(session, points):
  board = np.zeros_like(session.position.board)
  board.flat[points] = 1
  session.position.set_up(board, WHITE)
  return _vertices(session, points)


def _vertices(session, actions):
  return ' '.join(to_vertex(int(action), session.position.size) for action in actions)


# -------- core play commands (section 6.3.3) --------


def play(session: Session, player: str, vertex: str) -> None:
  """`play COLOUR VERTEX`: plays a move, whoever moved last."""
  colour, action = to_player(player), to_action(vertex, session.position.size)
  try:
    session.position.play(colour, action)
  except Illegal:
    raise CommandFailure('illegal move') from None


def play_sequence(session: Session, *words: str) -> None:
  """`gogui-play_sequence COLOUR VERTEX ...` (GoGui): plays all of the moves, or none."""
  if len(words) % 2:
    raise CommandFailure('syntax error')
  played = len(session.position.turns)
  try:
    for player, vertex in zip(words[::2], words[1::2], strict=True):
      play(session, player, vertex)
  except CommandFailure:
    while len(session.position.turns) > played:
      session.position.undo()
    raise


def genmove(session: Session, player: str) -> str:
  """`genmove COLOUR`: plays the engine's move; returns its vertex or 'resign'."""
  return session.generate(to_player(player))


def genmove_cleanup(session: Session, player: str) -> str:
  """`kgs-genmove_cleanup COLOUR` (KGS): as `genmove`, with dead stones captured before a pass."""
  return session.generate(to_player(player), cleanup=True)


def undo(session: Session) -> None:
  """`undo`: takes the last move back."""
  if not session.position.turns:
    raise CommandFailure('cannot undo')
  session.position.undo()


def all_legal(session: Session, player: str) -> str:
  """`all_legal COLOUR` (GNU Go): returns the legal points of a player."""
  return _vertices(session, np.flatnonzero(session.position.legal(to_player(player))[:-1]))


def is_legal(session: Session, player: str, vertex: str) -> str:
  """`is_legal COLOUR VERTEX` (GNU Go): returns '1' for a legal move, '0' for another."""
  colour, action = to_player(player), to_action(vertex, session.position.size)
  return str(int(session.position.legal(colour)[action]))


# -------- tournament commands (section 6.3.4) --------


def time_settings(session: Session, main: str, period: str, stones: str) -> None:
  """`time_settings MAIN PERIOD STONES` (section 4.2): sets both clocks."""
  numbers = to_float(main, 0), to_float(period, 0)
  session.set_time_control(clock.from_time_settings(*numbers, to_int(stones)))


def kgs_time_settings(session: Session, kind: str, *numbers: str) -> None:
  """`kgs-time_settings KIND ...` (KGS): sets both clocks, byo-yomi among them."""
  try:
    control = clock.from_kgs_time_settings(kind, *(to_float(text, 0) for text in numbers))
  except ValueError:
    raise CommandFailure('syntax error') from None
  session.set_time_control(control)


def time_left(session: Session, player: str, seconds: str, stones: str) -> None:
  """`time_left COLOUR SECONDS STONES` (section 4.2): corrects a clock."""
  session.clocks[to_player(player)].correct(to_float(seconds), to_int(stones))


def final_score(session: Session) -> str:
  """`final_score`: returns the score by area, such as 'B+3.5', with all stones alive."""
  return result(session.position.score)


def final_status_list(session: Session, status: str) -> str:
  """`final_status_list STATUS`: returns the vertices of the chains with it, a chain a line.

  All stones count as alive as long as they stand: what is dead has to be captured.
  """
  if status not in ('alive', 'dead', 'seki'):
    raise CommandFailure('syntax error')
  if status != 'alive':
    return ''
  chains = np.abs(np.asarray(session.position.state.chains))
  labels = np.unique(chains[chains != 0])
  return '\n'.join(_vertices(session, np.flatnonzero(chains == label)) for label in labels)


# -------- regression and debug commands (sections 6.3.5 and 6.3.6) --------


def loadsgf(session: Session, path: str, move: str = '') -> str:
  """`loadsgf FILE [N]`: sets up the position before move N of the main line, or at its end.

  Returns the colour to play (as GNU Go does; the standard has an empty response).
  """
  before = to_int(move) if move else None
  if before == 0:
    raise CommandFailure('cannot load file')
  try:
    record = sgf.read(path)
    position = session.empty_position(record.size, record.komi)
    if record.board is not None:
      position.set_up(record.board, record.to_play)
    for player, action in record.moves[: None if before is None else before - 1]:
      position.play(player, action)
  except Exception:  # whatever is wrong with the file
    raise CommandFailure('cannot load file') from None
  _check_size(session, position.size)
  session.begin(position)
  return COLOURS[position.to_play]


def reg_genmove(session: Session, player: str) -> str:
  """`reg_genmove COLOUR`: returns the engine's move without playing it, whatever the clock."""
  return session.vertex_of(session.analyze(to_player(player)))


def showboard(session: Session) -> str:
  """`showboard`: returns the board as text."""
  turns = session.position.turns
  return '\n' + notation.board(session.position.board, turns[-1].action if turns else None)
