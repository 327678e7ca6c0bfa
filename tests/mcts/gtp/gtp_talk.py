"""Conversations with a GTP session."""

import io

from mcts import engines
from mcts.gtp import server

SIZE = 5


def talk(*lines, engine=None, **options):
  """The answers to the lines, without the empty lines that end them."""
  session = server.Session(engine or engines.make('random'), **{'size': SIZE, **options})
  output = io.StringIO()
  server.serve(session, server.Lines([f'{line}\n' for line in lines]), output)
  answers = output.getvalue().split('\n\n')
  assert answers.pop() == '', 'the last answer ends with an empty line'
  return answers


def rollout(**options):
  return engines.make('rollout', **{'simulations': 8, 'leaves': 4, **options})
