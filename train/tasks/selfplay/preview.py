"""A game to look at: boards in text, which a report plays; of Go also SGF and a picture. And what
the first move may be."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.game import Game, beginnings
from mcts.go import notation, sgf
from train.task import Variables


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recorded:
  """A game of at most T moves.

  moves: int32 `[T]`, -1 after the end; states: pytree `[T, ...]`, after each move; value: float32
  `[]` of the last state, for the player 0.
  """

  moves: Array
  states: Any
  value: Array


def recorder(game: Game, player: Callable, longest: int) -> Callable[[Variables, Array], Recorded]:
  """(variables, key) to a game of `player(variables)` against itself, compiled."""

  def record(variables: Variables, key: Array) -> Recorded:
    choose = player(variables)

    def move(carry):
      turn, state, moves = carry
      keys = jax.random.fold_in(key, turn)[None]
      action = choose(jax.tree.map(lambda x: x[None], state), keys)[0]
      return turn + 1, game.step(state, action), moves.at[turn].set(action.astype(jnp.int32))

    start = jnp.int32(0), game.init(), jnp.full((longest,), -1)
    _, last, moves = lax.while_loop(lambda carry: ~game.done(carry[1]), move, start)
    # A finished state stays as it is, whatever the action.
    states = lax.scan(lambda s, a: (game.step(s, a),) * 2, game.init(), jnp.maximum(moves, 0))[1]
    return Recorded(moves, states, game.value(last) * (1 - 2 * game.to_play(last)))

  return jax.jit(record)


def first_move(game: Game, decider: Callable) -> Callable[[Variables, Array], Array]:
  """(variables, key) to the policy `[A]` of `decider(variables)` as a game begins, compiled."""
  return jax.jit(
    lambda variables, key: decider(variables)(beginnings(game, 1), key[None]).policy[0]
  )


def map_of(game: Any, policy: np.ndarray) -> dict[str, bytes]:
  """A picture of a first move's chances on a board of Go; else a line of percentages."""
  if not hasattr(game, 'score'):
    return {'first.txt': ' '.join(f'{100 * p:.0f}' for p in policy).encode() + b'\n'}
  empty = np.zeros((game.size, game.size), int)
  return {'first.png': _png(empty, visits=policy, title='the first move')}


def files(game: Any, recorded: Recorded) -> dict[str, bytes]:
  """File name -> contents."""
  if hasattr(game, 'score'):
    return _go(game, recorded)
  return {'game.txt': _lines(recorded).encode()}


def _go(game: Any, recorded: Recorded) -> dict[str, bytes]:
  moves = np.asarray(recorded.moves)
  moves = moves[moves >= 0].tolist()
  last = jax.tree.map(lambda x: x[-1], recorded.states)
  result = notation.result(float(game.score(last)))
  played = [(i % 2, action) for i, action in enumerate(moves)]
  record = sgf.Record(game.size, float(last.komi), moves=played, result=result)
  title = f'{result} after {len(moves)} moves'
  picture = _png(np.asarray(game.board(last)), last=moves[-1], title=title)
  return {
    'game.sgf': sgf.write(record).encode(),
    'game.png': picture,
    'game.txt': text(recorded, jax.vmap(game.board)(recorded.states), result).encode(),
  }


def _png(stones: np.ndarray, **marks: Any) -> bytes:
  from mcts.draw import diagram  # not at the top: it loads matplotlib, which play does without

  return diagram.encode(diagram.draw(stones, **marks))


def _lines(recorded: Recorded) -> str:
  word = {1: 'X wins', -1: 'O wins', 0: 'a draw'}[int(recorded.value)]
  return text(recorded, recorded.states.board, word)


def text(recorded: Recorded, boards: Any, word: str) -> str:
  """Boards `[T, H, W]` after each move, X moving first, and a word about the end."""
  played = np.asarray(boards)[np.asarray(recorded.moves) >= 0]
  pictures = ['\n'.join(''.join('.XO'[x] for x in row) for row in board) for board in played]
  return '\n\n'.join([*pictures, word]) + '\n'
