"""Commands that show what the engine thinks: GoGui's, and the streams of Leela Zero and KataGo.

Each is a function of the session and the words behind the command's name; see `commands.py`.
"""

from collections.abc import Generator

import numpy as np

from mcts.gtp import analysis
from mcts.gtp.protocol import CommandFailure
from mcts.gtp.session import Session

# -------- GoGui's analyze commands --------


def analyze_commands(session: Session) -> str:
  """Returns the commands whose responses GoGui can draw (`gogui-analyze_commands`)."""
  return '\n'.join(analysis.GOGUI_COMMANDS)


def visit_shares(session: Session) -> str:
  """Returns each point's share of the search's visits, for GoGui's dboard (`visit_shares`)."""
  found = session.analyze(session.position.to_play)
  return analysis.visit_shares(found, session.position.size)


def principal_variation(session: Session) -> str:
  """Returns the best line, for GoGui's gfx (`principal_variation`)."""
  player = session.position.to_play
  return analysis.variation(session.analyze(player), session.position.size, player)


def area(session: Session) -> str:
  """Returns whose area each point is, for GoGui's dboard (`area`)."""
  return analysis.grid(np.asarray(session.position.view.owner))


# -------- streaming analysis of Leela Zero and KataGo --------


def lz_analyze(session: Session, *words: str) -> Generator[str]:
  """Returns lines about the candidates while the engine searches (`lz-analyze ...`, Leela Zero)."""
  return _stream(session, words, analysis.lz_line, play=False)


def kata_analyze(session: Session, *words: str) -> Generator[str]:
  """Returns lines as `lz-analyze`, in KataGo's format (`kata-analyze ...`, KataGo)."""
  return _stream(session, words, analysis.kata_line, play=False)


def lz_genmove_analyze(session: Session, *words: str) -> Generator[str]:
  """Returns lines as `lz-analyze`, and then the move that it plays (`lz-genmove_analyze ...`)."""
  return _stream(session, words, analysis.lz_line, play=True)


def kata_genmove_analyze(session: Session, *words: str) -> Generator[str]:
  """Returns lines as `kata-analyze`, and then the move (`kata-genmove_analyze ...`)."""
  return _stream(session, words, analysis.kata_line, play=True)


def _stream(session, words, format_line, *, play):
  try:
    request = analysis.parse(words, session.position)
  except ValueError:
    raise CommandFailure('syntax error') from None
  return session.stream_analysis(request, format_line, play)
