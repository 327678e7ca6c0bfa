"""A GTP session: one game with one engine, and what each command does to it."""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from mcts import engines
from mcts.engines import Engine, clock
from mcts.engines.players import check_size
from mcts.go import handicap, notation
from mcts.go.notation import COLOURS, WHITE, result, to_vertex
from mcts.go.position import IllegalMove, Position
from mcts.gtp import analysis
from mcts.gtp.protocol import Command, Refusal, action_of, integer_of, number_of, player_of

VERSION = '1'

Answer = str | Iterator[str]
"""A text; or lines to be sent as they come, until the next command arrives."""


class Session:
  """One game with one engine, command by command.

  resign: genmove resigns where the search's chance to win is below this. Raises ValueError for a
  size of board that the engine does not know.
  """

  def __init__(
    self,
    engine: Engine,
    size: int = 19,
    komi: float = 7.5,
    superko: str = 'positional',
    suicide: bool = False,
    resign: float = 0.0,
  ):
    check_size(engine, size)
    self.engine, self.resign = engine, resign
    self.options = {'superko': superko, 'suicide': suicide}
    self.position = Position(size, komi, **self.options)
    self.settings = clock.Settings()
    self.last: engines.Report | None = None
    self.closed = False
    self._reset_clocks()

  def answer(self, command: Command) -> tuple[bool, Answer]:
    """Whether the command succeeded, and what to say; never raises."""
    try:
      if command.name not in COMMANDS:
        raise Refusal('unknown command')
      answer = COMMANDS[command.name](self, *command.arguments)
      return True, answer or ''
    except Refusal as error:
      return False, str(error)
    except TypeError as error:  # the words do not fit the function's parameters
      if _is_call_mismatch(error):
        return False, 'syntax error'
      return False, f'internal error: {one_line(error)}'
    except Exception as error:
      return False, f'internal error: {one_line(error)}'

  # ---- of the protocol ----

  def protocol_version(self):
    return '2'

  def name(self):
    return f'breakthroughs {self.engine.name}'

  def version(self):
    return VERSION

  def known_command(self, name='', *_):
    return 'true' if name in COMMANDS else 'false'

  def list_commands(self):
    return '\n'.join(COMMANDS)

  def quit(self):
    self.closed = True

  # ---- the board ----

  def boardsize(self, size):
    size = integer_of(size)
    self._need_size(size)
    self._new(Position(size, self.position.komi, **self.options))

  def query_boardsize(self):
    return str(self.position.size)

  def clear_board(self):
    self.position.clear()
    self._reset_clocks()

  def komi(self, komi):
    self.position.set_komi(number_of(komi))

  def get_komi(self):
    return f'{self.position.komi:g}'

  def play(self, player, vertex):
    player, action = player_of(player), action_of(vertex, self.position.size)
    try:
      self.position.play(player, action)
    except IllegalMove:
      raise Refusal('illegal move') from None

  def play_sequence(self, *words):
    """All of the moves, or none."""
    if len(words) % 2:
      raise Refusal('syntax error')
    played = len(self.position.turns)
    try:
      for player, vertex in zip(words[::2], words[1::2], strict=True):
        self.play(player, vertex)
    except Refusal:
      while len(self.position.turns) > played:
        self.position.undo()
      raise

  def undo(self):
    if not self.position.turns:
      raise Refusal('cannot undo')
    self.position.undo()

  def loadsgf(self, path, move=''):
    """The position of a file's main line before move number `move`, or at its end."""
    before = integer_of(move) if move else None
    if before == 0:
      raise Refusal('cannot load file')
    try:
      record = _read_sgf(path)
      position = Position(record.size, record.komi, **self.options)
      if record.board is not None:
        position.set_up(record.board, record.to_play)
      for player, action in record.moves[: None if before is None else before - 1]:
        position.play(player, action)
    except Exception:  # whatever is wrong with it
      raise Refusal('cannot load file') from None
    self._need_size(position.size)
    self._new(position)
    return COLOURS[position.to_play]

  def showboard(self):
    turns = self.position.turns
    last = turns[-1].action if turns else None
    return f'\n{notation.render(self.position.board, last)}\n'

  # ---- handicap ----

  def fixed_handicap(self, number):
    number = integer_of(number)
    self._need_empty()
    if not 2 <= number <= handicap.max_fixed(self.position.size):
      raise Refusal('invalid number of stones')
    return self._place(handicap.fixed(self.position.size, number))

  def place_free_handicap(self, number):
    number = integer_of(number)
    self._need_empty()
    if not 2 <= number < self.position.size**2:
      raise Refusal('invalid number of stones')
    return self._place(handicap.free(self.position.size, number))

  def set_free_handicap(self, *vertices):
    self._need_empty()
    size = self.position.size
    points = [action_of(text, size, 'bad vertex list') for text in vertices]
    wrong = size * size in points or len(set(points)) < len(points)
    if wrong or not 2 <= len(points) < size * size:
      raise Refusal('bad vertex list')
    self._place(points)

  def _need_empty(self):
    if self.position.board.any() or self.position.turns:
      raise Refusal('board not empty')

  def _place(self, points):
    board = np.zeros_like(self.position.board)
    board.flat[points] = 1
    self.position.set_up(board, WHITE)
    return ' '.join(to_vertex(point, self.position.size) for point in points)

  # ---- moves ----

  def genmove(self, player):
    return self._genmove(player_of(player))

  def reg_genmove(self, player):
    player = player_of(player)
    return self._vertex(engines.choose(self.engine, self.position, player))

  def genmove_cleanup(self, player):
    return self._genmove(player_of(player), tidy=True)

  def _genmove(self, player, **options):
    began = time.monotonic()
    self.last = engines.choose(self.engine, self.position, player, self._seconds(player), **options)
    return self._play_own(player, self.last, began)

  def _seconds(self, player):
    left = clock.moves_left(self.position.size, len(self.position.turns))
    return self.clocks[player].budget(left)

  def _play_own(self, player, report, began):
    """The move on the board and off the clock, as text."""
    self.clocks[player].spend(time.monotonic() - began)
    vertex = self._vertex(report)
    if vertex != 'resign':
      self.position.play(player, report.move)
    return vertex

  def _vertex(self, report):
    hopeless = report.value is not None and analysis.chance(report.value) < self.resign
    return 'resign' if hopeless else to_vertex(report.move, self.position.size)

  def all_legal(self, player):
    legal = np.flatnonzero(self.position.legal(player_of(player))[:-1])
    return ' '.join(to_vertex(int(action), self.position.size) for action in legal)

  def is_legal(self, player, vertex):
    player, action = player_of(player), action_of(vertex, self.position.size)
    return str(int(self.position.legal(player)[action]))

  # ---- time ----

  def time_settings(self, main, period, stones):
    main, period = number_of(main, 0), number_of(period, 0)
    self._set_time(clock.gtp_settings(main, period, integer_of(stones)))

  def kgs_time_settings(self, kind, *numbers):
    try:
      settings = clock.kgs_settings(kind, *(number_of(text, 0) for text in numbers))
    except ValueError:
      raise Refusal('syntax error') from None
    self._set_time(settings)

  def time_left(self, player, seconds, stones):
    self.clocks[player_of(player)].correct(number_of(seconds), integer_of(stones))

  def _set_time(self, settings):
    self.settings = settings
    self._reset_clocks()
    if settings.kind != 'none':  # compiling would be on the clock
      self.engine.warm(self.position)

  def _reset_clocks(self):
    self.clocks = [clock.Clock(self.settings), clock.Clock(self.settings)]

  def _need_size(self, size):
    try:
      check_size(self.engine, size)
    except ValueError:
      raise Refusal('unacceptable size') from None

  def _new(self, position):
    self.position = position
    self._reset_clocks()

  # ---- the score ----

  def final_score(self):
    return result(self.position.score)

  def final_status_list(self, status):
    """All stones are taken as they stand: what is dead has to be captured."""
    if status not in ('alive', 'dead', 'seki'):
      raise Refusal('syntax error')
    if status != 'alive':
      return ''
    chains = np.abs(np.asarray(self.position.state.chains))
    groups = [np.flatnonzero(chains == name) for name in np.unique(chains[chains != 0])]
    size = self.position.size
    return '\n'.join(' '.join(to_vertex(int(p), size) for p in group) for group in groups)

  # ---- what the engine thinks ----

  def analyze_commands(self):
    return '\n'.join(analysis.GOGUI)

  def visit_shares(self):
    return analysis.visit_shares(self._think(), self.position.size)

  def principal_variation(self):
    return analysis.variation(self._think(), self.position.size, self.position.to_play)

  def _think(self):
    return engines.choose(self.engine, self.position, self.position.to_play)

  def area(self):
    return analysis.grid(self.position.view.owner)

  def lz_analyze(self, *words):
    return self._analyze(words, analysis.lz_line)

  def kata_analyze(self, *words):
    return self._analyze(words, analysis.kata_line)

  def lz_genmove_analyze(self, *words):
    return self._analyze(words, analysis.lz_line, play=True)

  def kata_genmove_analyze(self, *words):
    return self._analyze(words, analysis.kata_line, play=True)

  def _analyze(self, words, line, play=False):
    try:
      wish = analysis.parse(words, self.position)
    except ValueError:
      raise Refusal('syntax error') from None
    return self._stream(wish, line, play)

  def _stream(self, wish, line, play):
    """A line of all moves each `interval`, as long as it is read or until the move is played."""
    began = shown = time.monotonic()
    seconds = self._seconds(wish.player) if play else math.inf
    options = {'allowed': wish.allowed}
    text, first = '', True
    for report in self.engine.consider(self.position, wish.player, seconds, **options):
      text = line(report, self.position.size, wish)
      now = time.monotonic()
      due = text and (first or now - shown >= wish.interval)
      yield text if due else ''
      if due:
        shown, first, text = now, False, ''
    if text:
      yield text
    if play:
      self.last = report
      yield f'play {self._play_own(wish.player, report, began)}'


def _read_sgf(path):
  from mcts.go import sgf  # slow to import, and rarely wanted

  return sgf.read(path)


def one_line(error):
  return ' '.join(f'{type(error).__name__} {error}'.split())[:200]


def _is_call_mismatch(error):
  """Whether a TypeError came from calling a command with too many or too few words."""
  return error.__traceback__.tb_next is None


COMMANDS: dict[str, Callable[..., Answer | None]] = {
  'protocol_version': Session.protocol_version,
  'name': Session.name,
  'version': Session.version,
  'known_command': Session.known_command,
  'list_commands': Session.list_commands,
  'quit': Session.quit,
  'boardsize': Session.boardsize,
  'query_boardsize': Session.query_boardsize,
  'clear_board': Session.clear_board,
  'komi': Session.komi,
  'get_komi': Session.get_komi,
  'play': Session.play,
  'gogui-play_sequence': Session.play_sequence,
  'undo': Session.undo,
  'loadsgf': Session.loadsgf,
  'showboard': Session.showboard,
  'fixed_handicap': Session.fixed_handicap,
  'place_free_handicap': Session.place_free_handicap,
  'set_free_handicap': Session.set_free_handicap,
  'genmove': Session.genmove,
  'reg_genmove': Session.reg_genmove,
  'kgs-genmove_cleanup': Session.genmove_cleanup,
  'all_legal': Session.all_legal,
  'is_legal': Session.is_legal,
  'time_settings': Session.time_settings,
  'kgs-time_settings': Session.kgs_time_settings,
  'time_left': Session.time_left,
  'final_score': Session.final_score,
  'final_status_list': Session.final_status_list,
  'gogui-analyze_commands': Session.analyze_commands,
  'visit_shares': Session.visit_shares,
  'principal_variation': Session.principal_variation,
  'area': Session.area,
  'lz-analyze': Session.lz_analyze,
  'kata-analyze': Session.kata_analyze,
  'lz-genmove_analyze': Session.lz_genmove_analyze,
  'kata-genmove_analyze': Session.kata_genmove_analyze,
}
