"""Conversations with a GTP session."""

import io

from mcts import engines
from mcts.engines import RuleSet
from mcts.gtp import commands, server
from mcts.gtp.protocol import parse
from mcts.gtp.session import Session

SIZE = 5


def new_session(engine=None, *, size=SIZE, komi=7.5, resign_threshold=0.0):
  return Session(engine or engines.make('random'), RuleSet(size, komi), resign_threshold)


def talk(*lines, engine=None, **options):
  """Returns the responses to the lines, without the empty lines that end them."""
  output = io.StringIO()
  lines = server.Lines([f'{line}\n' for line in lines])
  server.serve(new_session(engine, **options), lines, output)
  responses = output.getvalue().split('\n\n')
  assert responses.pop() == '', 'the last response ends with an empty line'
  return responses


def answer(session, line):
  """Returns the response to one command of a session."""
  return commands.answer(session, parse(line))


def rollout(**options):
  return engines.make('rollout', **{'num_simulations': 8, 'num_parallel_leaves': 4, **options})
