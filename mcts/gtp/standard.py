"""The standard's commands about the game, and those of GNU Go, GoGui and KGS that belong to them.

Each is a function of the session and the words behind the command's name; see `commands.py`.
"""

import sys

import numpy as np

from mcts.engines import clock
from mcts.go import handicap, notation, sgf
from mcts.go.notation import COLOURS, WHITE, result, to_vertex
from mcts.go.position import IllegalMove, Position
from mcts.gtp.protocol import CommandFailure, to_action, to_float, to_int, to_player
from mcts.gtp.session import GAME_OVER, Session

# -------- setup commands (section 6.3.2) --------


def boardsize(session: Session, size: str) -> None:
  """Begins a new game on a board of size N (`boardsize N`)."""
  number = to_int(size)
  _check_size(session, number)
  session.begin(session.empty_position(number, session.position.komi))


def query_boardsize(session: Session) -> str:
  """Returns the size of the board (`query_boardsize`, GNU Go)."""
  return str(session.position.size)


def clear_board(session: Session) -> None:
  """Begins a new game (`clear_board`)."""
  session.position.clear()
  session.reset_clocks()


def komi(session: Session, points: str) -> None:
  """Changes the komi (`komi POINTS`)."""
  try:
    session.set_komi(to_float(points))
  except ValueError as error:
    raise CommandFailure(str(error)) from None


def get_komi(session: Session) -> str:
  """Returns the komi (`get_komi`, GNU Go)."""
  return f'{session.position.komi:g}'


def fixed_handicap(session: Session, number: str) -> str:
  """Places stones as section 4.1.1 says; returns their vertices (`fixed_handicap N`)."""
  stones, size = to_int(number), session.position.size
  _check_empty(session)
  if not 2 <= stones <= handicap.max_fixed(size):
    raise CommandFailure('invalid number of stones')
  return _place_handicap(session, handicap.fixed(size, stones))


def place_free_handicap(session: Session, number: str) -> str:
  """Places stones; returns their vertices (`place_free_handicap N`, section 4.1.2)."""
  stones, size = to_int(number), session.position.size
  _check_empty(session)
  if not 2 <= stones < size * size:
    raise CommandFailure('invalid number of stones')
  return _place_handicap(session, handicap.free(size, stones))


def set_free_handicap(session: Session, *vertices: str) -> None:
  """Places stones where the controller says (`set_free_handicap VERTEX ...`, section 4.1.2)."""
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
  if session.engine.trained is not None:
    session.say('this game has a handicap; those that it was trained on began with no stones')
  return _vertices(session, points)


def _vertices(session, actions):
  return ' '.join(to_vertex(int(action), session.position.size) for action in actions)


# -------- core play commands (section 6.3.3) --------


def play(session: Session, player: str, vertex: str) -> None:
  """Plays a move, whoever moved last (`play COLOUR VERTEX`)."""
  colour, action = to_player(player), to_action(vertex, session.position.size)
  try:
    session.position.play(colour, action)
  except IllegalMove:
    raise CommandFailure(GAME_OVER if session.is_over(colour) else 'illegal move') from None


def play_sequence(session: Session, *words: str) -> None:
  """Plays all of the moves, or none (`gogui-play_sequence COLOUR VERTEX ...`, GoGui)."""
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
  """Plays the engine's move; returns its vertex or 'resign' (`genmove COLOUR`)."""
  return session.generate(to_player(player))


def genmove_cleanup(session: Session, player: str) -> str:
  """Plays the engine's move, dead stones captured before a pass (`kgs-genmove_cleanup`, KGS)."""
  return session.generate(to_player(player), cleanup=True)


def undo(session: Session) -> None:
  """Takes the last move back (`undo`)."""
  if not session.position.turns:
    raise CommandFailure('cannot undo')
  session.position.undo()


def all_legal(session: Session, player: str) -> str:
  """Returns the legal points of a player (`all_legal COLOUR`, GNU Go)."""
  return _vertices(session, np.flatnonzero(session.position.legal(to_player(player))[:-1]))


def is_legal(session: Session, player: str, vertex: str) -> str:
  """Returns '1' for a legal move, '0' for another (`is_legal COLOUR VERTEX`, GNU Go)."""
  colour, action = to_player(player), to_action(vertex, session.position.size)
  return str(int(session.position.legal(colour)[action]))


# -------- tournament commands (section 6.3.4) --------


def time_settings(session: Session, main: str, period: str, stones: str) -> None:
  """Sets both clocks (`time_settings MAIN PERIOD STONES`, section 4.2)."""
  numbers = to_float(main, 0), to_float(period, 0)
  session.set_time_control(clock.from_time_settings(*numbers, to_int(stones)))


def kgs_time_settings(session: Session, kind: str, *numbers: str) -> None:
  """Sets both clocks, byo-yomi among them (`kgs-time_settings KIND ...`, KGS)."""
  try:
    control = clock.from_kgs_time_settings(kind, *(to_float(text, 0) for text in numbers))
  except ValueError:
    raise CommandFailure('syntax error') from None
  session.set_time_control(control)


def time_left(session: Session, player: str, seconds: str, stones: str) -> None:
  """Corrects a clock (`time_left COLOUR SECONDS STONES`, section 4.2)."""
  session.correct_clock(to_player(player), to_float(seconds), to_int(stones))


def final_score(session: Session) -> str:
  """Returns the score by area, such as 'B+3.5', with all stones alive (`final_score`)."""
  return result(session.position.score)


def final_status_list(session: Session, status: str) -> str:
  """Returns the chains of a status, the vertices of one a line (`final_status_list STATUS`).

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
  """Sets up the position before move N of the main line, or at its end (`loadsgf FILE [N]`).

  Returns the colour to play (as GNU Go does; the standard has an empty response). What the file
  has that is not kept goes to stderr.
  """
  before = to_int(move) if move else None
  if before == 0:
    raise CommandFailure('cannot load file')
  try:
    record = sgf.read(path)
    if record.size not in session.engine.sizes:
      raise ValueError(f"a board of size {record.size} is none of the engine's")
    position = _replayed(session, record, before)
  except FileNotFoundError:
    raise CommandFailure('cannot load file') from None
  except (OSError, ValueError) as error:
    raise CommandFailure(f'cannot load file: {getattr(error, "strerror", error)}') from None
  notes = list(record.notes)
  if position.komi != session.position.komi:
    notes.append(f'komi is {position.komi:g} from now on')
  if record.tags.get('RU', str(session.rules)) != str(session.rules):
    notes.append(f'RU[{notation.printable(record.tags["RU"])}]: played by {session.rules}')
  for note in notes:
    print(f'loadsgf: {note}', file=sys.stderr)
  session.begin(position)
  return COLOURS[position.to_play]


def _replayed(session: Session, record: sgf.Record, before: int | None) -> Position:
  position = session.empty_position(record.size, record.komi)
  empty = np.zeros((record.size, record.size), np.int8)
  position.set_up(empty if record.board is None else record.board, record.to_play)
  moves = record.moves[: None if before is None else before - 1]
  if len(moves) >= position.max_moves:
    raise ValueError(f'{len(moves)} moves: must be fewer than {position.max_moves}')
  for number, turn in enumerate(moves, 1):
    try:
      position.play(*turn)
    except IllegalMove as error:
      raise ValueError(f'move {number}: {error} by {session.rules}') from None
  return position


def reg_genmove(session: Session, player: str) -> str:
  """Returns the engine's move without playing it, whatever the clock (`reg_genmove COLOUR`)."""
  return session.vertex_of(session.analyze(to_player(player)))


def showboard(session: Session) -> str:
  """Returns the board as text (`showboard`)."""
  turns = session.position.turns
  last = turns[-1].action if turns else None
  return f'\n{notation.render(session.position.board, last)}\n'
