"""The 48 feature planes of AlphaGo's policy and value networks of 2016, from states of `mcts.go`.

Silver et al. 2016, Methods, 'Features for policy/value network', and extended data table 2. All are
from the view of the player to move. A feature that counts is one-hot over eight planes: 1, 2, ...,
7, 8 or more; where the count is 0, all eight are 0. Where the paper leaves a case open, `PLANES`
says what is done here.

Most planes ask what a move at each point would do, on all points at once. Since a chain's exact
liberties are wanted there, chains are kept as sets of points, *bit rows* `[..., N]`: one uint32 a
row of the board, bit c for column c. Union, neighbours and count of sets are then a few operations
on words. Boards are flat, `[N^2]`, and `view` is a board of chain ids as in `mcts.go.chains` with
the player's own chains positive. Ladders are read by `mcts.alphago.ladders`, up to seven queries a
point (`KINDS`); what can be seen at once is not asked.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.alphago import ladders
from mcts.go import Go, State
from mcts.go import chains as chains_lib
from mcts.go.state import chains_of, stones_of, to_play

PLANES = (
  ('stone colour', 3),  # own, opponent's, empty
  ('ones', 1),
  ('turns since', 8),  # a stone was placed that still stands; stones set up count as old
  ('liberties', 8),  # of the stone's chain
  ('capture size', 8),  # opponent's stones that a legal move here removes
  ('self-atari size', 8),  # stones of the own chain if a legal move here leaves it one liberty
  ('liberties after move', 8),  # of the own chain after a legal move here
  ('ladder capture', 1),  # a legal move here catches a chain of two liberties in a ladder
  ('ladder escape', 1),  # a legal move here saves an own chain in atari
  ('sensibleness', 1),  # legal, and no eye of one's own is filled
  ('zeros', 1),
)
COUNT = sum(count for _, count in PLANES)

# The queries that one point may put to the ladder reader: does a move here catch the chain above,
# below, left, right; does it save a chain by extending it; does it save one or another by
# capturing.
KINDS = np.array([ladders.CAPTURE] * 4 + [ladders.ESCAPE] * 3, np.int32)


def planes(game: Go, states: State, colour: bool = False) -> Array:
  """Returns the planes of a batch of states, bool `[B, N, N, 48]`, in the order of `PLANES`.

  The batch is seen whole because of the ladders: `jax.vmap` of this works, but slowly.

  Args:
    game: the rules.
    states: `[B, ...]`.
    colour: with a 49th plane, ones if black is to move, which the value network has.
  """
  size = game.size
  features = jax.vmap(lambda state: _board_features(game, state))(states)
  yes = ladders.read(features.chains, features.player, features.prey, KINDS, size)  # [B, N^2, 7]
  capture = yes[..., :4].any(-1)
  escape = features.escapes | yes[..., 4:].any(-1)
  parts = [*features.before, capture[..., None], escape[..., None], *features.after]
  if colour:
    black = jnp.broadcast_to((features.player == 1)[:, None, None], (*capture.shape, 1))
    parts.append(black)
  return jnp.concatenate(parts, -1).reshape(capture.shape[0], size, size, -1)


class BoardFeatures(NamedTuple):
  """What one board gives without reading ladders, and what is to be read.

  Attributes:
    chains: int32 `[N^2]`.
    player: int32 `[]`, 1 if black is to move, else -1.
    before: bool `[N^2, n]` each, the planes before those of ladders.
    after: likewise, those after them.
    prey: int32 `[N^2, 7]`, absolute chain ids as `ladders.read` wants them, by `KINDS`.
    escapes: bool `[N^2]`, moves that save a chain at once.
  """

  chains: Array
  player: Array
  before: tuple[Array, ...]
  after: tuple[Array, ...]
  prey: Array
  escapes: Array


def _board_features(game: Go, state: State) -> BoardFeatures:
  size, player = game.size, 1 - 2 * to_play(state)
  chains = chains_of(state)
  view = chains * player
  legal = game.legal(state)[:-1]  # without the pass
  sets = _chain_sets(view, size)
  # `reply`, what the opponent's stones would do, is for the ladders alone.
  move = _move_effects(view, sets, size, 1)
  reply = _move_effects(view, sets, size, -1)
  zero = jnp.zeros_like(view)
  self_atari = jnp.where(legal & (move.liberties == 1), move.stones, 0)
  ones = jnp.ones_like(legal)[:, None]
  before = (
    jnp.stack([view > 0, view < 0, view == 0], -1),
    ones,
    _one_hot(turns_since(game, state)),
    _one_hot(sets.liberties[jnp.abs(view)] * (view != 0)),
    _one_hot(jnp.where(legal, move.captured, zero)),
    _one_hot(self_atari),
    _one_hot(jnp.where(legal, move.liberties, zero)),
  )
  after = ((legal & ~chains_lib.eyes(view, size))[:, None], ~ones)
  prey, escapes = _ladder_queries(view, legal, sets, move, reply, size)
  return BoardFeatures(chains, player, before, after, prey, escapes)


def _one_hot(x: Array) -> Array:
  """Returns bool `[N^2, 8]` of counts `[N^2]`: 1, 2, ..., 7, 8 or more; nothing for 0."""
  return jnp.minimum(x, 8).astype(jnp.int32)[:, None] == np.arange(1, 9)[None]


def turns_since(game: Go, state: State) -> Array:
  """Returns int32 `[N^2]`: how many turns ago each stone was placed, 1 for the last; 0 for none.

  Stones set up before the game count as older than all others.
  """
  _, point, captured_at = stones_of(game.rules, state)
  entry, count = jnp.arange(point.shape[0]), state.num_entries.astype(jnp.int32)
  stands = (entry < count) & (captured_at == 0)
  age = jnp.where(entry < state.num_setup, point.shape[0], count - entry)
  points = game.size * game.size
  # At most one stone stands at a point, so no two entries write to one place but to the last.
  place = jnp.where(stands, point, points)
  return jnp.zeros_like(point, shape=(points + 1,)).at[place].set(jnp.where(stands, age, 0))[:-1]


# -------- chains as bit rows --------


class ChainSets(NamedTuple):
  """The chains of a board by absolute id.

  Attributes:
    members: uint32 `[N^2 + 1, N]`, bit rows of each chain's stones; row 0 means nothing.
    liberties: int32 `[N^2 + 1]`, how many liberties each has.
  """

  members: Array
  liberties: Array


class MoveEffects(NamedTuple):
  """What a stone at each point would do, legal or not; 0 where there is a stone already.

  Attributes:
    captured: int32 `[N^2]`, how many stones it captures.
    liberties: int32 `[N^2]`, how many liberties the stone's chain then has.
    stones: int32 `[N^2]`, how many stones that chain has.
  """

  captured: Array
  liberties: Array
  stones: Array


def _chain_sets(view: Array, size: int) -> ChainSets:
  point = np.arange(size * size)
  bits = jnp.asarray(np.uint32(1) << (point % size).astype(np.uint32))
  members = jnp.zeros_like(view, jnp.uint32, shape=(size * size + 1, size))
  # A sum of bits is their union: each stone adds a bit of its own.
  members = members.at[jnp.abs(view), point // size].add(bits, mode='promise_in_bounds')
  empty = chains_lib.to_bit_rows(view == 0, size)
  # `empty` also takes away the bits beyond the edge.
  return ChainSets(members, _set_size(_dilate(members) & empty[None]))


def _dilate(x: Array) -> Array:
  """Returns the sets `[..., N]` with their points' neighbours; bits beyond the edge too."""
  none = jnp.zeros_like(x[..., :1])
  up = jnp.concatenate([x[..., 1:], none], -1)
  down = jnp.concatenate([none, x[..., :-1]], -1)
  return x | x << 1 | x >> 1 | up | down


def _set_size(x: Array) -> Array:
  return lax.population_count(x).sum(-1, dtype=jnp.int32)


def _move_effects(view: Array, sets: ChainSets, size: int, player: int) -> MoveEffects:
  """Returns what a stone of `player`, 1 for the one to move or -1, does at every empty point.

  The new chain is the stone and the own chains beside it; the stones captured are the opponent's
  chains beside it that have one liberty. The new chain's liberties are its neighbours that are
  empty then, those of captured stones included.
  """
  point = np.arange(size * size)
  row = np.arange(size)[None] == (point // size)[:, None]  # [N^2, N], on the host
  here = jnp.asarray(np.where(row, np.uint32(1) << (point % size).astype(np.uint32)[:, None], 0))
  here = here.astype(jnp.uint32)  # [N^2, N], each point as a set
  # As sets, since a chain may lie on two sides of a point and must be counted once.
  mine, gone = here, jnp.zeros_like(here)
  for side in chains_lib.neighbours(view * player, size):
    chain_id = jnp.abs(side)
    chain = sets.members[chain_id]
    mine |= jnp.where((side > 0)[:, None], chain, 0)
    # The point is empty and touches the chain, so its one liberty is this one.
    gone |= jnp.where(((side < 0) & (sets.liberties[chain_id] == 1))[:, None], chain, 0)
  free = chains_lib.to_bit_rows(view == 0, size)[None] & ~here | gone
  empty = view == 0
  # `free` counts the points of captured stones, and not the point itself, which is taken now.
  numbers = (_set_size(gone), _set_size(_dilate(mine) & free), _set_size(mine))
  return MoveEffects(*(jnp.where(empty, x, 0) for x in numbers))


# -------- which ladders are read --------


def _ladder_queries(
  view: Array, legal: Array, sets: ChainSets, move: MoveEffects, reply: MoveEffects, size: int
) -> tuple[Array, Array]:
  """Returns the prey of `KINDS`, int32 `[N^2, 7]`, and bool `[N^2]` the escapes seen at once.

  A capture is asked of each chain of the opponent's with two liberties, one of which is the point;
  an escape of each own chain in atari that the move extends, or saves by capturing beside it.

  Args:
    view: int32 `[N^2]`.
    legal: bool `[N^2]`.
    sets: of the board.
    move: what the player's stones do.
    reply: what the opponent's stones do.
    size: N.
  """
  sides = chains_lib.neighbours(view, size)
  liberties = [sets.liberties[jnp.abs(x)] for x in sides]
  hunted = [(x < 0) & (n == 2) for x, n in zip(sides, liberties, strict=True)]
  hunted = [h & f for h, f in zip(hunted, chains_lib.is_first_of_chain(sides), strict=True)]
  # Not asked where the prey gets three liberties by running to its other liberty. A capture by the
  # move itself might change what it gets there, so then it is asked.
  open_ = [road & (move.captured == 0) for road in _escape_roads(view, reply, size)]
  catch = [
    jnp.where(h & legal & ~open_[k], -x, 0)
    for k, (h, x) in enumerate(zip(hunted, sides, strict=True))
  ]
  # A stone joins all own chains beside it, so one query stands for all of these in atari.
  own = [jnp.where((x > 0) & (n == 1), x, 0) for x, n in zip(sides, liberties, strict=True)]
  run = jnp.where(legal, jnp.max(jnp.stack(own), 0), 0)
  escapes = (run > 0) & (move.liberties >= 3)
  run = jnp.where(move.liberties == 2, run, 0)  # with one liberty left it is caught
  first, second = _saved_by_capture(view, sides, liberties, size)
  first = jnp.where(legal, first, 0)
  second = jnp.where(legal & (second != first), second, 0)
  return jnp.stack([*catch, run, first, second], -1), escapes


def _escape_roads(view: Array, reply: MoveEffects, size: int) -> list[Array]:
  """Returns bool `[N^2]` by side: whether the chain there has, besides this point, a wide liberty.

  A liberty is wide if its owner's stone there has four liberties or more, three without this point.
  """
  points = size * size
  wide = ((view == 0) & (reply.liberties >= 4)).astype(jnp.int32)
  sides = chains_lib.neighbours(view, size)
  roads = jnp.zeros_like(view, shape=(points + 1,))  # by chain id, how many wide liberties
  for side, first in zip(sides, chains_lib.is_first_of_chain(sides), strict=True):
    # `first`: a liberty that touches a chain on two sides is still one.
    roads = roads.at[jnp.abs(side)].add(wide * first)
  return [roads[jnp.abs(side)] - wide > 0 for side in sides]  # less this point itself


def _saved_by_capture(
  view: Array, sides: list[Array], liberties: list[Array], size: int
) -> tuple[Array, Array]:
  """Returns int32 `[N^2]` twice: own chains in atari beside what a stone here captures, 0 for none.

  Of more than two such chains these are the ones with the highest and the lowest id.
  """
  points = size * size
  none = points + 1
  weak = [(x > 0) & (n == 1) for x, n in zip(sides, liberties, strict=True)]
  highest = jnp.max(jnp.stack([jnp.where(w, x, 0) for w, x in zip(weak, sides, strict=True)]), 0)
  lowest = jnp.min(jnp.stack([jnp.where(w, x, none) for w, x in zip(weak, sides, strict=True)]), 0)
  # From the stones of the opponent's chains to the chains, and from these to the captures.
  zeros = jnp.zeros_like(view, shape=(points + 1,))
  enemy = jnp.where(view < 0, -view, 0)
  high = zeros.at[enemy].max(jnp.where(view < 0, highest, 0))
  low = (zeros + none).at[enemy].min(jnp.where(view < 0, lowest, none))
  first, last = jnp.zeros_like(view), jnp.full_like(view, none)
  for side, n in zip(sides, liberties, strict=True):
    chain_id, takes = jnp.abs(side), (view == 0) & (side < 0) & (n == 1)
    first = jnp.maximum(first, jnp.where(takes, high[chain_id], 0))
    last = jnp.minimum(last, jnp.where(takes, low[chain_id], none))
  return first, jnp.where(last < none, last, 0)
