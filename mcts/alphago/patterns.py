"""AlphaGo's fast policy of rollouts: a softmax over points of weights of small local patterns.

Silver et al. 2016, Methods, 'Rollout policy', and extended data table 4. Every feature is one of a
list without gaps, so that a point's score is a few entries of a table, added up. What differs from
the paper: chains are in atari or not, instead of having 1, 2 or more liberties, and that of the
neighbours in line alone; a response has the 3x3 around the last move and the place of the point by
it, instead of 12 points; there are no patterns of a nakade.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.go import Go, State
from mcts.go import chains as chains_lib
from mcts.go.playouts import own_eyes
from mcts.go.state import chains_of, to_play

EMPTY, OWN, OTHER, EDGE = range(4)
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
NEAR = (*AROUND, (-2, 0), (2, 0), (0, -2), (0, 2))  # with the 8, the diamond around a move

# name -> how many features; each point has one of each kind.
KINDS = {
  'pattern': 4**8,  # colours of the 8 points around
  'atari': 8**4,  # of the 4 in line: colour, and whether its chain is in atari
  'saves': 2,  # an own chain in atari, which then has two liberties or more
  'neighbour': 1 + len(NEAR),  # where it lies from the last move; the first for elsewhere
  'response': 1 + len(NEAR) * 4**8,  # with the colours around the last move
}
OFFSETS = dict(zip(KINDS, np.cumsum([0, *KINDS.values()]).tolist(), strict=False))
COUNT = sum(KINDS.values())


def features(game: Go, state: State) -> Array:
  """int32 `[N^2, 5]`, of each point its feature of each of `KINDS`, in [0, `COUNT`)."""
  size, player = game.size, 1 - 2 * to_play(state)
  view = chains_of(state) * player
  colours = jnp.where(view == 0, EMPTY, jnp.where(view > 0, OWN, OTHER))
  around = [_shifted(colours, size, *way, EDGE) for way in AROUND]
  pattern = chains_lib.materialize(sum(c << 2 * i for i, c in enumerate(around)))
  atari = _in_atari(jnp.abs(view), size)
  line = [_shifted(colours + 4 * atari, size, *way, EDGE) for way in LINE]
  near, response = _answer(_last_move(game, state), pattern, size)
  parts = {
    'pattern': pattern,
    'atari': sum(c << 3 * i for i, c in enumerate(line)),
    'saves': _saves(line, _shifts(view, size), atari, size),
    'neighbour': near,
    'response': response,
  }
  return jnp.stack([parts[name] + OFFSETS[name] for name in KINDS], -1)


LINE = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _shifted(x: Array, size: int, row: int, column: int, beyond: int) -> Array:
  """Of `[N^2]` the value at a distance from each point, `beyond` the edge."""
  board = jnp.pad(x.reshape(size, size), 1, constant_values=beyond)
  return board[1 + row : 1 + row + size, 1 + column : 1 + column + size].reshape(-1)


def _shifts(x: Array, size: int) -> list[Array]:
  return [_shifted(x, size, *way, 0) for way in LINE]


def _in_atari(names: Array, size: int) -> Array:
  """int32 `[N^2]`: 1 for a stone whose chain has one liberty."""
  sums = chains_lib.sum_by_chain(names, chains_lib.pseudo_liberties(names, size))[names]
  found = chains_lib.in_atari(sums[:, 0], sums[:, 1]) & (names > 0)
  return chains_lib.materialize(found.astype(jnp.int32))


def _saves(line, sides, atari, size) -> Array:
  """A point beside an own chain in atari, with another liberty, chain or capture to live by."""
  free = sum((code == EMPTY).astype(jnp.int32) for code in line)
  own = chains_lib.any_of([code == OWN + 4 for code in line])
  lives = [(code == OWN) | (code == OTHER + 4) for code in line]
  return (own & ((free >= 2) | chains_lib.any_of(lives))).astype(jnp.int32)


def _last_move(game: Go, state: State) -> Array:
  """int32 `[]`, its point; N^2 for a pass, and where there is none."""
  count = state.count.astype(jnp.int32)
  low = state.record[jnp.maximum(count - 1, 0)]
  point = low.astype(jnp.int32) & (2**game.rules.packing.point_bits - 1)
  return jnp.where(count > state.start, point, game.rules.points)


def _answer(last: Array, pattern: Array, size: int) -> tuple[Array, Array]:
  """int32 `[N^2]` each: where a point lies from the last move, and that with the pattern there."""
  table = jnp.asarray(_places(size))[last]  # [N^2], 0 for far away
  there = jnp.append(pattern, 0)[last]
  return table, jnp.where(table > 0, 1 + (table - 1) * 4**8 + there, 0)


def _places(size: int) -> np.ndarray:
  """int32 `[N^2 + 1, N^2]`: of two points 1 + the place in `NEAR` of the second from the first."""
  row, column = np.divmod(np.arange(size * size), size)
  far = np.stack([row[None] - row[:, None], column[None] - column[:, None]], -1)
  places = np.zeros((size * size + 1, size * size), np.int32)
  for number, way in enumerate(NEAR):
    places[:-1] += (1 + number) * (far == np.array(way)).all(-1)
  return places


# -------- play --------


def scores(weights: Array, found: Array) -> Array:
  """float32 `[..., N^2]`, of features `[..., N^2, 5]` by the table `[COUNT]`."""
  return jnp.asarray(weights)[found].sum(-1)


def moves(weights: Array) -> Callable[[Go, State, Array], Array]:
  """What `evaluators.play_out` plays by: int32 `[B]`, drawn by the softmax of the scores among
  legal points that are no eyes of one's own; else a pass.
  """

  def choose(game: Go, states: State, keys: Array) -> Array:
    return jax.vmap(lambda state, key: draw(game, weights, state, key))(states, keys)

  return choose


def draw(game: Go, weights: Array, state: State, key: Array) -> Array:
  """int32 `[]`, by Gumbel's maximum."""
  points = game.legal(state)[:-1] & ~own_eyes(game, state)
  noise = jax.random.gumbel(key, points.shape)
  score = jnp.where(points, scores(weights, features(game, state)) + noise, -jnp.inf)
  return jnp.where(points.any(), score.argmax(), game.rules.points).astype(jnp.int32)
