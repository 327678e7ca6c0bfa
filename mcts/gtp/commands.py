"""The commands of GTP by name, and how a session answers them.

A command is a function of the session and the words behind its name. It returns the text of the
response (None for an empty one) or raises `CommandFailure`; those of `STREAMING` return lines.
"""

import inspect
from collections.abc import Callable, Generator

from mcts.engines import NoAnswer
from mcts.gtp import extensions, standard
from mcts.gtp.protocol import Command, CommandFailure, Response
from mcts.gtp.session import Session

VERSION = '1'


def answer(session: Session, command: Command) -> Response:
  """Executes a command and returns its response; never raises."""
  function: Callable | None = COMMANDS.get(command.name)
  if function is None:
    return Response(False, 'unknown command')
  try:
    inspect.signature(function).bind(session, *command.arguments)
  except TypeError:  # too many words or too few
    return Response(False, 'syntax error')
  try:
    found = function(session, *command.arguments)
  except Exception as error:
    return Response(False, failure(error))
  return Response(True, stream=found) if command.name in STREAMING else Response(True, found or '')


def failure(error: Exception) -> str:
  """Returns the error message of a response, one line."""
  expected = isinstance(error, CommandFailure | NoAnswer)
  text = str(error) if expected else f'internal error: {type(error).__name__} {error}'
  return ' '.join(text.split())[:300]


# -------- administrative commands (section 6.3.1) --------


def protocol_version(session: Session) -> str:
  """Returns the version of GTP (`protocol_version`)."""
  return '2'


def name(session: Session) -> str:
  """Returns the name of the program and of its engine (`name`)."""
  return f'breakthroughs {session.engine.name}'


def version(session: Session) -> str:
  """Returns the version of the program (`version`)."""
  return VERSION


def known_command(session: Session, command: str = '', *_: str) -> str:
  """Returns 'true' or 'false' (`known_command NAME`)."""
  return 'true' if command in COMMANDS else 'false'


def list_commands(session: Session) -> str:
  """Returns all commands, one a line (`list_commands`)."""
  return '\n'.join(COMMANDS)


def close(session: Session) -> None:
  """Ends the session after the response (`quit`)."""
  session.closed = True


STREAMING: dict[str, Callable[..., Generator[str]]] = {
  'lz-analyze': extensions.lz_analyze,
  'kata-analyze': extensions.kata_analyze,
  'lz-genmove_analyze': extensions.lz_genmove_analyze,
  'kata-genmove_analyze': extensions.kata_genmove_analyze,
}

COMMANDS: dict[str, Callable[..., str | Generator[str] | None]] = {
  'protocol_version': protocol_version,
  'name': name,
  'version': version,
  'known_command': known_command,
  'list_commands': list_commands,
  'quit': close,
  'boardsize': standard.boardsize,
  'query_boardsize': standard.query_boardsize,
  'clear_board': standard.clear_board,
  'komi': standard.komi,
  'get_komi': standard.get_komi,
  'play': standard.play,
  'gogui-play_sequence': standard.play_sequence,
  'undo': standard.undo,
  'loadsgf': standard.loadsgf,
  'showboard': standard.showboard,
  'fixed_handicap': standard.fixed_handicap,
  'place_free_handicap': standard.place_free_handicap,
  'set_free_handicap': standard.set_free_handicap,
  'genmove': standard.genmove,
  'reg_genmove': standard.reg_genmove,
  'kgs-genmove_cleanup': standard.genmove_cleanup,
  'all_legal': standard.all_legal,
  'is_legal': standard.is_legal,
  'time_settings': standard.time_settings,
  'kgs-time_settings': standard.kgs_time_settings,
  'time_left': standard.time_left,
  'final_score': standard.final_score,
  'final_status_list': standard.final_status_list,
  'gogui-analyze_commands': extensions.analyze_commands,
  'visit_shares': extensions.visit_shares,
  'principal_variation': extensions.principal_variation,
  'area': extensions.area,
  **STREAMING,
}
