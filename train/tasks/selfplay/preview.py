"""Files that show how a network plays: one game, and the search's policy at the first move.

`game.txt` holds the position after each move, which the report plays move by move. A game with more
to show has a line in PREVIEWS: Go adds SGF and pictures.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.game import Game, first_player_value, initial_states
from mcts.games import terminal
from mcts.go import notation, sgf
from train.task import Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PreviewGame:
  """A game of at most T moves.

  moves: int32 `[T]`, -1 after the end.
  states: pytree `[T, ...]`, after each move.
  value: float32 `[]` of the last state, for player 0.
  """

  moves: Array
  states: Any
  value: Array


Files = dict[str, bytes]
"""File name -> contents."""


class Preview(NamedTuple):
  """How a game is shown: the files of a record, and of a policy `[A]` at the first move."""

  game: Callable[[Any, PreviewGame], Files]
  first_move: Callable[[Any, np.ndarray], Files]


def recorder(game: Game, player: Callable) -> Callable[[Variables, Array], PreviewGame]:
  """Returns (variables, key) -> a game of `player(variables)` against itself, compiled."""

  def record(variables: Variables, key: Array) -> PreviewGame:
    choose = player(variables)

    def move(carry):
      turn, state, moves, _ = carry
      keys = jax.random.fold_in(key, turn)[None]
      action = choose(jax.tree.map(lambda x: x[None], state), keys)[0]
      # -1, no answer, ends the record like a game's end.
      after = game.step(state, jnp.maximum(action, 0))
      state = jax.tree.map(lambda new, old: jnp.where(action < 0, old, new), after, state)
      return turn + 1, state, moves.at[turn].set(action.astype(jnp.int32)), action < 0

    def going(carry):
      return ~game.done(carry[1]) & ~carry[3]

    start = jnp.int32(0), game.init(), jnp.full((game.max_length,), -1), jnp.bool_(False)
    _, last, moves, _ = lax.while_loop(going, move, start)
    # Played again to have all states; after the end any action leaves the state as it is.
    states = lax.scan(lambda s, a: (game.step(s, a),) * 2, game.init(), jnp.maximum(moves, 0))[1]
    return PreviewGame(moves, states, first_player_value(game, last))

  return jax.jit(record)


def first_move(game: Game, decider: Callable) -> Callable[[Variables, Array], Array]:
  """Returns (variables, key) -> the policy `[A]` of `decider(variables)` at the first move."""
  return jax.jit(
    lambda variables, key: decider(variables)(initial_states(game, 1), key[None]).policy[0]
  )


# -------- any game --------


def game_files(game: Game, record: PreviewGame) -> Files:
  """Returns 'game.txt', the rendered positions and the result."""
  states = jax.device_get(record.states)
  positions = [
    game.render(jax.tree.map(lambda x, i=i: x[i], states)) for i in range(num_moves(record))
  ]
  return {'game.txt': text(positions, terminal.result(float(record.value)))}


def first_move_files(game: Game, policy: np.ndarray) -> Files:
  """Returns 'first.txt', the chances of the actions in percent."""
  return {'first.txt': ' '.join(f'{100 * p:.0f}' for p in policy).encode() + b'\n'}


def num_moves(record: PreviewGame) -> int:
  """Returns the length of the game."""
  return int((np.asarray(record.moves) >= 0).sum())


def text(positions: list[str], result: str) -> bytes:
  """Returns positions and the result with empty lines between them."""
  return ('\n\n'.join([*positions, result]) + '\n').encode()


# -------- Go --------


def go_game_files(game: Any, record: PreviewGame) -> Files:
  """Returns the game as SGF and text, and a picture of the last position."""
  count = num_moves(record)
  moves = np.asarray(record.moves)[:count].tolist()
  last = jax.tree.map(lambda x: x[-1], record.states)
  result = notation.result(float(game.score(last)))
  boards = np.asarray(jax.vmap(game.board)(record.states))
  played = [(i % 2, action) for i, action in enumerate(moves)]
  file = sgf.Record(game.size, float(last.komi), moves=played, result=result)
  # Without coordinates, which the report's viewer draws itself.
  plain = [notation.render(board, coordinates=False) for board in boards[:count]]
  return {
    'game.sgf': sgf.write(file).encode(),
    'game.png': _png(boards[-1], last=moves[-1], title=f'{result} after {count} moves'),
    'game.txt': text(plain, result),
  }


def go_first_move_files(game: Any, policy: np.ndarray) -> Files:
  """Returns a picture of the chances on an empty board."""
  empty = np.zeros((game.size, game.size), int)
  return {'first.png': _png(empty, visits=policy, title='the first move')}


DEFAULT = Preview(game_files, first_move_files)


# By the game's name in `mcts.GAMES`.
PREVIEWS: Mapping[str, Preview] = {'go': Preview(go_game_files, go_first_move_files)}


def _png(stones: np.ndarray, **marks: Any) -> bytes:
  from mcts.draw import (
    diagram,  # not at the top: it loads matplotlib, which training can do without
  )

  return diagram.encode(diagram.draw(stones, **marks))
