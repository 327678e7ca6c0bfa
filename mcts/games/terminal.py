"""Any game of the contract, played by hand in a terminal."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import jax
import numpy as np

from mcts.game import Game, first_player_value

Opponent = Callable[[Any], int]
"""A state (unbatched) to the action that is played in it."""

QUIT = ('q', 'quit', 'exit')
PIECES = 'XO'  # of the player who moves first, and of the other


def play(
  game: Game,
  opponent: Opponent,
  *,
  human: int = 0,
  input: TextIO | None = None,
  output: TextIO | None = None,
) -> float | None:
  """Plays one game between a human and an opponent, and shows each position and the result.

  An action is typed by its number or in the game's notation (`Game.action_name`), in either case.
  What is no legal action is refused in one line and asked for again; 'q' or the end of the input
  ends the game.

  Args:
    game: any of the contract.
    opponent: chooses the other player's actions.
    human: 0 to move first, 1 to move second.
    input: where actions are read, a line each; stdin by default.
    output: where positions are shown; stdout by default.

  Returns:
    1, 0 or -1 as the human has won, drawn or lost; None for a game that was left.

  Raises:
    ValueError: `human` is neither 0 nor 1.
  """
  if human not in (0, 1):
    raise ValueError(f'human {human!r}: must be 0, to move first, or 1')
  lines, output = iter(input or sys.stdin), output or sys.stdout
  step, legal = jax.jit(game.step), jax.jit(game.legal)
  done, to_play = jax.jit(game.done), jax.jit(game.to_play)
  state = game.init()
  while not done(state):
    player = int(to_play(state))
    allowed = np.flatnonzero(np.asarray(legal(state))).tolist()
    if player == human:
      print(f'\n{game.render(jax.device_get(state))}', file=output)
      action = _ask(game, allowed, PIECES[player], lines, output)
      if action is None:
        return None
    else:
      action = int(opponent(state))
      print(f'\n{PIECES[player]} plays {game.action_name(action)}', file=output, flush=True)
    state = step(state, np.int32(action))
  print(f'\n{game.render(jax.device_get(state))}', file=output)
  value = float(first_player_value(game, state))
  print(result(value), file=output, flush=True)
  return value if human == 0 else -value


def result(value: float) -> str:
  """Returns the result in words; value: of the finished game for the player who moved first."""
  return {1: 'X wins', -1: 'O wins', 0: 'a draw'}[int(value)]


def _ask(
  game: Game, allowed: list[int], piece: str, lines: Iterator[str], output: TextIO
) -> int | None:
  """Returns the legal action that is typed, None where the game is left."""
  names = {action: game.action_name(action) for action in allowed}
  while True:
    print(f'{piece} to move ({_choices(list(names.values()))}; q quits): ', end='', file=output)
    output.flush()
    word = next(lines, QUIT[0]).strip()
    if word.lower() in QUIT:
      return None
    for action, name in names.items():
      if word.lower() in (name.lower(), str(action)):
        return action
    print(f'{word!r}: no legal action here', file=output)


def _choices(names: list[str], most: int = 12) -> str:
  """Returns the names, or where they are many the first ones and how many there are."""
  if len(names) <= most:
    return ' '.join(names)
  return f'{" ".join(names[:most])} ... of {len(names)}'
