"""AlphaGo's rollout policy: a linear softmax over points of small local pattern features.

Silver et al. 2016, Methods, 'Rollout policy', and extended data table 4. Each point has one feature
of each of five kinds (`KINDS`), so that its score is five entries of a table of weights, added up.
A feature is a number in [0, `COUNT`): `OFFSETS` of its kind plus its number within the kind.

What differs from the paper: chains are in atari or not, instead of having 1, 2 or more liberties,
and only those of the four direct neighbours count; a response has the 3x3 around the last move and
the place of the point by it, instead of 12 points; there are no patterns of a nakade.

Boards are flat, `[N^2]`. A colour is 2 bits (`EMPTY` ... `EDGE`); a pattern packs those of the
eight points around, the i-th of `AROUND` in bits 2i and 2i + 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.go import Go, State
from mcts.go import chains as chains_lib
from mcts.go.playouts import Choose
from mcts.go.state import chains_of, to_play

EMPTY, OWN, OTHER, EDGE = range(4)
IN_ATARI = 4  # added to the colour of a stone whose chain has one liberty
# Offsets as (rows, columns).
DIRECT = ((-1, 0), (1, 0), (0, -1), (0, 1))
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
NEAR = (*AROUND, (-2, 0), (2, 0), (0, -2), (0, 2))  # with the 8, the diamond around a move

# kind -> how many features it has
KINDS = {
  'pattern': 4**8,  # colours of the 8 points around
  'atari': 8**4,  # of the 4 direct neighbours: colour, and whether its chain is in atari
  'saves': 2,  # an own chain in atari is beside, which then has two liberties or more
  'neighbour': 1 + len(NEAR),  # where the point lies from the last move; 0 for elsewhere
  'response': 1 + len(NEAR) * 4**8,  # likewise, with the pattern around the last move
}
OFFSETS = dict(zip(KINDS, np.cumsum([0, *KINDS.values()]).tolist(), strict=False))
COUNT = sum(KINDS.values())


def features(game: Go, state: State) -> Array:
  """Returns int32 `[N^2, 5]` in [0, `COUNT`): each point's feature of each kind (unbatched)."""
  size, player = game.size, 1 - 2 * to_play(state)
  view = chains_of(state) * player
  colours = jnp.where(view == 0, EMPTY, jnp.where(view > 0, OWN, OTHER))
  around = [_at_offset(colours, size, *offset, EDGE) for offset in AROUND]
  pattern = chains_lib.materialize(
    chains_lib.sum_of([colour << 2 * i for i, colour in enumerate(around)])
  )
  atari = _in_atari(jnp.abs(view), size)
  direct = [_at_offset(colours + IN_ATARI * atari, size, *offset, EDGE) for offset in DIRECT]
  neighbour, response = _by_last_move(_last_move(game, state), pattern, size)
  parts = {
    'pattern': pattern,
    'atari': chains_lib.sum_of([code << 3 * i for i, code in enumerate(direct)]),
    'saves': _saves(direct),
    'neighbour': neighbour,
    'response': response,
  }
  return jnp.stack([parts[kind] + OFFSETS[kind] for kind in KINDS], -1)


def _at_offset(x: Array, size: int, row: int, column: int, beyond: int) -> Array:
  """Returns the value of x `[N^2]` at an offset from each point, `beyond` the edge."""
  board = jnp.pad(x.reshape(size, size), 1, constant_values=beyond)
  return board[1 + row : 1 + row + size, 1 + column : 1 + column + size].reshape(-1)


def _in_atari(ids: Array, size: int) -> Array:
  """Returns int32 `[N^2]`: 1 for a stone whose chain has one liberty; ids are absolute."""
  sums = chains_lib.sum_by_chain(ids, chains_lib.pseudo_liberties(ids, size))[ids]
  found = chains_lib.in_atari(sums[:, 0], sums[:, 1]) & (ids > 0)
  return chains_lib.materialize(found.astype(jnp.int32))


def _saves(direct: list[Array]) -> Array:
  """Returns int32 `[N^2]`: 1 beside an own chain in atari, where a stone has two ways to live.

  These are two empty neighbours, an own chain that is not in atari, or a capture.
  """
  free = chains_lib.sum_of([(code == EMPTY).astype(jnp.int32) for code in direct])
  own = chains_lib.any_of([code == OWN + IN_ATARI for code in direct])
  lives = [(code == OWN) | (code == OTHER + IN_ATARI) for code in direct]
  return (own & ((free >= 2) | chains_lib.any_of(lives))).astype(jnp.int32)


def _last_move(game: Go, state: State) -> Array:
  """Returns int32 `[]`, the last move's point; N^2 for a pass and for a first position."""
  count = state.num_entries.astype(jnp.int32)
  low = state.record[jnp.maximum(count - 1, 0)]
  point = low.astype(jnp.int32) & (2**game.rules.packing.point_bits - 1)
  return jnp.where(count > state.num_setup, point, game.rules.points)


def _by_last_move(last: Array, pattern: Array, size: int) -> tuple[Array, Array]:
  """Returns int32 `[N^2]` twice: the features 'neighbour' and 'response'."""
  neighbour = jnp.asarray(_neighbour_table(size))[last]
  there = jnp.append(pattern, 0)[last]
  return neighbour, jnp.where(neighbour > 0, 1 + (neighbour - 1) * 4**8 + there, 0)


def _neighbour_table(size: int) -> np.ndarray:
  """Returns int32 `[N^2 + 1, N^2]`: 1 + the place in `NEAR` of the second point from the first."""
  row, column = np.divmod(np.arange(size * size), size)
  offset = np.stack([row[None] - row[:, None], column[None] - column[:, None]], -1)
  table = np.zeros((size * size + 1, size * size), np.int32)
  for number, near in enumerate(NEAR):
    table[:-1] += (1 + number) * (offset == np.array(near)).all(-1)
  return table


# -------- play --------


def scores(weights: Array, found: Array) -> Array:
  """Returns float32 `[..., N^2]`, the logits of features `[..., N^2, 5]` by weights `[COUNT]`."""
  return jnp.asarray(weights)[found].sum(-1)


def player(weights: Array) -> Choose:
  """Returns the player of `playouts.outcome` that samples moves from the rollout policy.

  It chooses among legal points that are no eyes of its own, else it passes.
  """

  def choose(game: Go, states: State, keys: Array) -> Array:
    return jax.vmap(lambda state, key: sample(game, weights, state, key))(states, keys)

  return choose


def sample(game: Go, weights: Array, state: State, key: Array) -> Array:
  """Returns int32 `[]`, a sampled action, by the Gumbel-max trick (unbatched)."""
  points = game.legal(state)[:-1] & ~game.own_eyes(state)
  noise = jax.random.gumbel(key, points.shape)
  score = jnp.where(points, scores(weights, features(game, state)) + noise, -jnp.inf)
  return jnp.where(points.any(), score.argmax(), game.rules.points).astype(jnp.int32)
