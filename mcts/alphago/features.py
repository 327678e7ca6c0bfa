"""The 48 planes that AlphaGo's networks saw in 2016, of states of `mcts.go`.

Silver et al. 2016, Methods, 'Features for policy/value network' and extended data table 2. All are
from the view of the player to move. A number is one of eight planes: 1, 2, ..., 7, 8 or more; where
it is 0, all eight are empty. Where the paper leaves a case open, `PLANES` says what is done here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.alphago import ladders
from mcts.go import Go
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
  (
    'ladder escape',
    1,
  ),  # a legal move here saves an own chain in atari (see `mcts.alphago.ladders`)
  ('sensibleness', 1),  # legal, and no eye of one's own is filled
  ('zeros', 1),
)
COUNT = sum(count for _, count in PLANES)


def planes(game: Go, states, colour: bool = False) -> Array:
  """bool `[B, N, N, 48]` of a batch of states; with `colour` a 49th, whether black is to move.

  The batch is seen whole because of the ladders: `jax.vmap` of this works, but slowly.
  """
  size = game.size
  facts = jax.vmap(lambda state: _facts(game, state))(states)
  yes = ladders.read(facts.chains, facts.player, facts.prey, KINDS, size)
  catch = yes[..., :4].any(-1)
  escape = facts.escapes | yes[..., 4:].any(-1)
  parts = [*facts.before, catch[..., None], escape[..., None], *facts.after]
  if colour:
    black = jnp.broadcast_to((facts.player == 1)[:, None, None], (*catch.shape, 1))
    parts.append(black)
  return jnp.concatenate(parts, -1).reshape(catch.shape[0], size, size, -1)


# The questions that one point may put to the ladder reader: does a move here catch the chain on
# each side; does it save a chain by extending it; does it save one or another by capturing.
KINDS = np.array([ladders.CAPTURE] * 4 + [ladders.ESCAPE] * 3, np.int32)


class Facts(NamedTuple):
  """Of one board: the planes before and after those of ladders, `[N^2, n]` each, and what is asked.

  player: int32, 1 black, -1 white. prey: int32 `[N^2, 7]`, as `ladders.read` wants it.
  escapes: bool `[N^2]`, moves that save a chain at once.
  """

  chains: Array
  player: Array
  before: tuple[Array, ...]
  after: tuple[Array, ...]
  prey: Array
  escapes: Array


def _facts(game, state) -> Facts:
  size, player = game.size, 1 - 2 * to_play(state)
  chains = chains_of(state)
  view = chains * player  # own stones positive
  legal = game.legal(state)[:-1]
  groups = _groups(view, size)
  move = _moves(view, groups, size, 1)
  reply = _moves(view, groups, size, -1)
  zero = jnp.zeros_like(view)
  atari = jnp.where(legal & (move.liberties == 1), move.stones, 0)
  ones = jnp.ones_like(legal)[:, None]
  before = (
    jnp.stack([view > 0, view < 0, view == 0], -1),
    ones,
    _eight(turns_since(game, state)),
    _eight(groups.liberties[jnp.abs(view)] * (view != 0)),
    _eight(jnp.where(legal, move.captured, zero)),
    _eight(atari),
    _eight(jnp.where(legal, move.liberties, zero)),
  )
  after = ((legal & ~chains_lib.eyes(view, size))[:, None], ~ones)
  prey, escapes = _questions(view, legal, groups, move, reply, size)
  return Facts(chains, player, before, after, prey, escapes)


def _eight(x: Array) -> Array:
  """bool `[N^2, 8]` of a number `[N^2]`."""
  return jnp.minimum(x, 8).astype(jnp.int32)[:, None] == np.arange(1, 9)[None]


def turns_since(game, state) -> Array:
  """int32 `[N^2]`: how many turns ago each stone was placed, 1 for the last; 0 where is none."""
  _, point, gone = stones_of(game.rules, state)
  entry, count = jnp.arange(point.shape[0]), state.count.astype(jnp.int32)
  stands = (entry < count) & (gone == 0)
  age = jnp.where(entry < state.start, point.shape[0], count - entry)
  points = game.size * game.size
  place = jnp.where(stands, point, points)
  return jnp.zeros_like(point, shape=(points + 1,)).at[place].set(jnp.where(stands, age, 0))[:-1]


# -------- chains as rows of bits --------


class Groups(NamedTuple):
  """By chain's name: members uint32 `[N^2 + 1, N]`, rows of bits; liberties int32 `[N^2 + 1]`."""

  members: Array
  liberties: Array


class Moves(NamedTuple):
  """Of a move at each point, int32 `[N^2]`: what it captures; the new chain's liberties, stones."""

  captured: Array
  liberties: Array
  stones: Array


def _groups(view, size) -> Groups:
  point = np.arange(size * size)
  bits = jnp.asarray(np.uint32(1) << (point % size).astype(np.uint32))
  members = jnp.zeros_like(view, jnp.uint32, shape=(size * size + 1, size))
  members = members.at[jnp.abs(view), point // size].add(bits, mode='promise_in_bounds')
  empty = chains_lib.to_bit_rows(view == 0, size)
  return Groups(members, _count(_dilate(members) & empty[None]))


def _dilate(x):
  """Rows `[..., N]` of bits and their neighbours; bits beyond the edge too."""
  none = jnp.zeros_like(x[..., :1])
  up = jnp.concatenate([x[..., 1:], none], -1)
  down = jnp.concatenate([none, x[..., :-1]], -1)
  return x | x << 1 | x >> 1 | up | down


def _count(x):
  return lax.population_count(x).sum(-1, dtype=jnp.int32)


def _moves(view, groups: Groups, size: int, player: int) -> Moves:
  """What a stone of `player`, 1 or -1 of the view, does on every empty point, legal or not."""
  point = np.arange(size * size)
  row = np.arange(size)[None] == (point // size)[:, None]
  here = jnp.asarray(np.where(row, np.uint32(1) << (point % size).astype(np.uint32)[:, None], 0))
  here = here.astype(jnp.uint32)
  mine, gone = here, jnp.zeros_like(here)
  for side in chains_lib.neighbours(view * player, size):
    name = jnp.abs(side)
    chain = groups.members[name]
    mine |= jnp.where((side > 0)[:, None], chain, 0)
    gone |= jnp.where(((side < 0) & (groups.liberties[name] == 1))[:, None], chain, 0)
  free = chains_lib.to_bit_rows(view == 0, size)[None] & ~here | gone
  empty = view == 0
  numbers = (_count(gone), _count(_dilate(mine) & free), _count(mine))
  return Moves(*(jnp.where(empty, x, 0) for x in numbers))


# -------- what is asked about ladders --------


def _questions(view, legal, groups: Groups, move: Moves, reply: Moves, size: int):
  """The prey of `KINDS`, without what can be seen at once; and the escapes seen at once."""
  sides = chains_lib.neighbours(view, size)
  free = [groups.liberties[jnp.abs(x)] for x in sides]
  hunted = [(x < 0) & (n == 2) for x, n in zip(sides, free, strict=True)]
  hunted = [h & f for h, f in zip(hunted, chains_lib.is_first_of_chain(sides), strict=True)]
  # Where running to the other liberty gives three or more, if what is there now stays there.
  open_ = [road & (move.captured == 0) for road in _roads(view, reply, size)]
  catch = [
    jnp.where(h & legal & ~open_[k], -x, 0)
    for k, (h, x) in enumerate(zip(hunted, sides, strict=True))
  ]
  own = [jnp.where((x > 0) & (n == 1), x, 0) for x, n in zip(sides, free, strict=True)]
  run = jnp.where(legal, jnp.max(jnp.stack(own), 0), 0)
  escapes = (run > 0) & (move.liberties >= 3)
  run = jnp.where(move.liberties == 2, run, 0)
  first, second = _saved_by_capture(view, sides, free, groups, size)
  first = jnp.where(legal, first, 0)
  second = jnp.where(legal & (second != first), second, 0)
  return jnp.stack([*catch, run, first, second], -1), escapes


def _roads(view, reply: Moves, size):
  """By side: whether the chain there has a liberty, another than this point, that leads away."""
  points = size * size
  wide = ((view == 0) & (reply.liberties >= 4)).astype(jnp.int32)
  sides = chains_lib.neighbours(view, size)
  ways = jnp.zeros_like(view, shape=(points + 1,))
  for side, first in zip(sides, chains_lib.is_first_of_chain(sides), strict=True):
    ways = ways.at[jnp.abs(side)].add(wide * first)
  return [ways[jnp.abs(side)] - wide > 0 for side in sides]


def _saved_by_capture(view, sides, free, groups, size):
  """int32 `[N^2]` twice: own chains in atari beside what a stone here captures, 0 for none.

  Of more than two such chains the first and the last name.
  """
  points = size * size
  none = points + 1
  weak = [(x > 0) & (n == 1) for x, n in zip(sides, free, strict=True)]
  highest = jnp.max(jnp.stack([jnp.where(w, x, 0) for w, x in zip(weak, sides, strict=True)]), 0)
  lowest = jnp.min(jnp.stack([jnp.where(w, x, none) for w, x in zip(weak, sides, strict=True)]), 0)
  zeros = jnp.zeros_like(view, shape=(points + 1,))
  enemy = jnp.where(view < 0, -view, 0)
  high = zeros.at[enemy].max(jnp.where(view < 0, highest, 0))
  low = (zeros + none).at[enemy].min(jnp.where(view < 0, lowest, none))
  first, last = jnp.zeros_like(view), jnp.full_like(view, none)
  for side, n in zip(sides, free, strict=True):
    name, takes = jnp.abs(side), (view == 0) & (side < 0) & (n == 1)
    first = jnp.maximum(first, jnp.where(takes, high[name], 0))
    last = jnp.minimum(last, jnp.where(takes, low[name], none))
  return first, jnp.where(last < none, last, 0)
