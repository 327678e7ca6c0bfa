"""Ladders on a Go board, read to their end, for a whole batch of boards at once.

The planes 'ladder capture' and 'ladder escape' (Silver et al. 2016, extended data table 2) ask of
each legal move whether it catches a chain, or saves one, in a ladder. A ladder is a chase with two
sides. The *attacker* may only give atari to the *prey*, a chain with two liberties. The prey may
run to its last liberty, or capture a chain beside it that is in atari. It has escaped when it has
three liberties, and is caught when it has one and the attacker is to move. A ko may not be retaken
at once.

Algorithm. Each query (board, first move, prey) is a depth-first search of an and-or tree: the side
to move needs one move that works for it, the other side's moves must all fail. It is exact but for
two bounds, which count as an escape: `MAX_DEPTH` N plies deep, and `MAX_MOVES` moves in all.

The number of queries of a board, and of moves to read for one, varies by orders of magnitude, so a
`vmap` over boards would wait for the worst. Instead the queries of all boards form one queue, and a
fixed number of *lanes* works on it: in each round of one `while_loop` every lane makes one move of
its own search, and a lane that is done takes the next query of the queue.

Layouts, for B boards of N x N points with up to Q queries a point:

  query index   (board * N^2 + point) * Q + q, in [0, B N^2 Q)
  boards        padded, `[N (N + 1)]` as in `mcts.go.chains`, int16, the attacker's chains positive;
                ids, points and moves are padded indices, too
  stack         the nodes above each lane's present one, by depth: `[lanes, D, ...]`, D =
  `MAX_DEPTH` N
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.go import chains as chains_lib
from models import forms

MAX_DEPTH = 8  # times N; across the board and back
MAX_MOVES = 2000
CPU_LANES = 16  # few, since each lane costs time in each round; an accelerator has them in parallel
MAX_LANES = 1024  # elsewhere one for each board, up to so many

CAPTURE, ESCAPE = 0, 1  # kinds of queries
OPEN, CAUGHT, ESCAPED = 0, 1, 2  # outcomes of a move or a node; OPEN: not known yet
BESIDE = 1 << 12  # more than all pseudo-liberties of a chain


class Lane(NamedTuple):
  """A search under way at one node: a board, and whose move it is by depth and kind of query.

  Every field has a leading axis of lanes where all lanes are meant.

  Attributes:
    query: int32, query index, -1 for a lane without work.
    chains: int16 `[N (N + 1)]`, the node's board.
    depth: int32, 0 at the root, where the query's first move is the only one.
    last_tried: int32, the move tried last at this node, -1 for none. Moves are tried in the order
      of their points, so that all before it have been tried.
    ko: int32, the point that may not be retaken now, -1 for none.
    outcome: int32, what `last_tried` led to; OPEN before the first.
    num_moves: int32, moves made for this query so far.
  """

  query: Array
  chains: Array
  depth: Array
  last_tried: Array
  ko: Array
  outcome: Array
  num_moves: Array


class Query(NamedTuple):
  """Does a stone at `point` catch (CAPTURE), or save (ESCAPE), the chain of the stone at `prey`?

  Attributes:
    kind: int32, CAPTURE or ESCAPE.
    point: int32, the first move.
    prey: int32, a stone of the chain, which stands until the chain is captured.
  """

  kind: Array
  point: Array
  prey: Array


def read(chains: Array, players: Array, prey: Array, kinds: np.ndarray, size: int) -> Array:
  """Returns bool `[B, N^2, Q]`: whether the answer is yes; false where there is no query.

  Args:
    chains: int32 `[B, N^2]`, as in `mcts.go.chains`.
    players: int32 `[B]`, who is to move, 1 for black and -1 for white.
    prey: int32 `[B, N^2, Q]`, for a move at each point the absolute ids of chains that may be
      caught or saved, 0 for no query. The moves must be legal.
    kinds: int `[Q]`, CAPTURE or ESCAPE.
    size: N.
  """
  batch, points, per_point = prey.shape
  ids, per_board = prey.reshape(-1), points * per_point
  queue, count = _queue(ids)
  lanes = min(CPU_LANES if forms.formulation() == 'cpu' else MAX_LANES, max(batch, 4))
  boards = _pad_boards(chains * players.astype(chains.dtype)[:, None], size)

  def attacked(index):  # the board of a query, the attacker's chains positive
    escape = jnp.asarray(kinds)[index % per_point] == ESCAPE
    return boards[index // per_board] * jnp.where(escape, -1, 1).astype(jnp.int16)[:, None]

  def query(index):
    index = jnp.maximum(index, 0)
    point, stone = index // per_point % points, ids[index].astype(jnp.int32) - 1
    return Query(
      jnp.asarray(kinds)[index % per_point], *(_pad_index(x, size) for x in (point, stone))
    )

  def one_round(carry):
    lane, stack, taken, yes = carry
    lane, taken = _refill(lane, taken, queue, count, attacked)
    asked = query(lane.query)
    tried = jax.vmap(lambda lane, asked: _try_move(lane, asked, size))(lane, asked)
    lane, stack, result = _descend_or_return(lane, stack, tried)
    answer = (result == CAUGHT) == (asked.kind == CAPTURE)
    done = (result != OPEN) & (lane.query >= 0)
    yes = yes.at[jnp.where(done, lane.query, ids.shape[0])].set(answer, mode='drop')
    return lane._replace(query=jnp.where(done, -1, lane.query)), stack, taken, yes

  def busy(carry):
    return (carry[2] < count) | (carry[0].query >= 0).any()

  start = (_idle(ids, lanes, size), _empty_stack(ids, lanes, size), jnp.zeros_like(count), ids < 0)
  return lax.while_loop(busy, one_round, start)[-1].reshape(prey.shape)


def _queue(ids):
  """Returns int32 `[B N^2 Q]`, the indices of all queries in order, and how many these are."""
  asked = ids > 0
  rank = jnp.cumsum(asked, dtype=jnp.int32)
  queue = (
    jnp.zeros_like(rank)
    .at[jnp.where(asked, rank - 1, rank.shape[0])]
    .set(jnp.arange(rank.shape[0], dtype=jnp.int32), mode='drop')
  )
  return queue, rank[-1]


def _pad_index(point, size: int):
  """Returns the padded index of a point's flat index."""
  return point + point // size


def _pad_boards(chains, size: int):
  """Returns int16 `[B, N (N + 1)]` of flat boards `[B, N^2]`, chain ids translated likewise."""
  ids = jnp.where(chains == 0, 0, jnp.sign(chains) * (_pad_index(jnp.abs(chains) - 1, size) + 1))
  ids = ids.astype(jnp.int16).reshape(-1, size, size)
  return jnp.pad(ids, ((0, 0), (0, 0), (0, 1))).reshape(-1, size * (size + 1))


# Carries begin as zeros "like" an input, so that under `shard_map` they vary over devices as it
# does.


def _idle(like, lanes: int, size: int) -> Lane:
  zero = jnp.zeros_like(like, jnp.int32, shape=lanes)
  board = jnp.zeros_like(like, jnp.int16, shape=(lanes, size * (size + 1)))
  return Lane(zero - 1, board, zero, zero - 1, zero - 1, zero, zero)


def _empty_stack(like, lanes: int, size: int):
  """Returns the stack's three arrays: `chains`, `last_tried` and `ko` of the nodes above."""
  shape = (lanes, MAX_DEPTH * size)
  return (
    jnp.zeros_like(like, jnp.int16, shape=(*shape, size * (size + 1))),
    jnp.zeros_like(like, jnp.int32, shape=shape),
    jnp.zeros_like(like, jnp.int32, shape=shape),
  )


def _refill(lane: Lane, taken, queue, count, attacked):
  """Returns the lanes, the idle ones at the root of the next queries, and how many were taken."""
  idle = lane.query < 0
  place = taken + jnp.cumsum(idle, dtype=jnp.int32) - 1
  new = idle & (place < count)
  index = jnp.where(new, queue[jnp.minimum(place, queue.shape[0] - 1)], 0)
  fill = lambda x: jnp.full_like(index, x)  # noqa: E731
  fresh = Lane(index, attacked(index), fill(0), fill(-1), fill(-1), fill(OPEN), fill(0))
  lane = jax.tree.map(lambda a, b: jnp.where(_per_lane(new, a), a, b), fresh, lane)
  return lane, taken + new.sum(dtype=jnp.int32)


def _per_lane(mask, like):
  """Returns the mask `[lanes]` in a shape that broadcasts against `[lanes, ...]`."""
  return mask.reshape(-1, *[1] * (like.ndim - 1))


# -------- one move of one lane, unbatched --------


class Tried(NamedTuple):
  """What trying one more move at a node has shown.

  Attributes:
    result: int32, the outcome of the node if it is known now, else OPEN.
    outcome: int32, of the move if the board alone decides it, else OPEN.
    move: int32, its point.
    chains: int16 `[N (N + 1)]`, the board after it.
    ko: int32, the point that it forbids to retake, -1 for none.
  """

  result: Array
  outcome: Array
  move: Array
  chains: Array
  ko: Array


def _try_move(lane: Lane, query: Query, size: int) -> Tried:
  """Returns what the node's next untried move does; the node is decided if there is none."""
  index = np.arange(size * (size + 1), dtype=np.int32)
  attacking = (lane.depth + query.kind) % 2 == 0
  chains = chains_lib.materialize(lane.chains.astype(jnp.int32))
  moves, around, last = _moves_to_try(chains, query.prey, attacking, size)
  moves = jnp.where(lane.depth == 0, index == query.point, moves) & (index > lane.last_tried)
  move = jnp.where(moves, index, index[-1] + 1).min()
  left, move = move <= index[-1], jnp.minimum(move, index[-1])

  ids, only = (jnp.stack([x[move] for x in xs]) for xs in (around, last))  # [4]
  new, legal, ko = _play(chains, ids, only, move, jnp.where(attacking, 1, -1), size)
  legal &= move != lane.ko
  outcome = _outcome(new, query.prey, attacking, legal, size)
  deep = (lane.depth + 1 >= MAX_DEPTH * size) | (lane.num_moves >= MAX_MOVES)
  outcome = jnp.where((outcome == OPEN) & deep, ESCAPED, outcome)

  good = jnp.where(attacking, CAUGHT, ESCAPED)  # for the mover: then no other move needs a try
  bad = jnp.where(attacking, ESCAPED, CAUGHT)
  result = jnp.where(left, jnp.where(outcome == good, good, OPEN), bad)
  result = jnp.where(lane.outcome == good, good, result)  # the child below has just returned it
  return Tried(result, outcome, move, new.astype(jnp.int16), ko)


def _moves_to_try(chains, prey, attacking, size: int) -> tuple[Array, list[Array], list[Array]]:
  """Returns the moves that a ladder depends on, and what is beside each point.

  The moves, bool `[N (N + 1)]`, are the prey's liberties, and for the prey also captures of chains
  beside it. Then by side the chain there, and whether the point is its only liberty.
  """
  is_prey, empty = _prey_and_empty(chains, prey, size)
  beside = chains_lib.materialize(chains_lib.any_of(_neighbours(is_prey, size)))
  liberties = chains_lib.sum_of(_neighbours(chains_lib.materialize(empty.astype(jnp.int32)), size))
  # One sum over each chain holds two facts: its pseudo-liberties in the low bits, and above them
  # how many of its stones are beside the prey.
  sums = jnp.zeros_like(chains, shape=(chains.shape[0] + 1,))
  sums = sums.at[jnp.abs(chains)].add(chains_lib.materialize(liberties + beside * BESIDE))
  sums = chains_lib.materialize(sums[jnp.abs(chains)])
  around = _neighbours(chains, size)
  pseudo = [x & (BESIDE - 1) for x in _neighbours(sums, size)]
  last = [n == k for n, k in zip(pseudo, chains_lib.same_chain_counts(around), strict=True)]
  near = [x >= BESIDE for x in _neighbours(sums, size)]
  rescue = [(i > 0) & x & t for i, x, t in zip(around, last, near, strict=True)]
  return empty & (beside | (chains_lib.any_of(rescue) & ~attacking)), around, last


def _prey_and_empty(chains, prey, size: int) -> tuple[Array, Array]:
  """Returns bool `[N (N + 1)]` twice: the prey's stones, none once it is captured; empty points."""
  is_prey = (chains == chains[prey]) & (chains != 0)
  return is_prey, (chains == 0) & (np.arange(chains.shape[0]) % (size + 1) < size)


def _neighbours(x, size: int) -> list[Array]:
  """Returns the padded board x `[N (N + 1)]` above, below, left and right, zero beyond the edge."""
  width, length = size + 1, x.shape[0]
  padded = jnp.pad(x, width)
  return [padded[start : start + length] for start in (0, 2 * width, width - 1, width + 1)]


def _play(chains, ids, only, move, mover, size: int):
  """Returns the board after a move, whether it is legal but for ko, and the point of a new ko.

  ids int32 `[4]` are the chains beside the move and only bool `[4]` whether it is their only
  liberty; mover is 1 for the attacker, -1 for the prey's side.
  """
  index = np.arange(chains.shape[0], dtype=np.int32)
  row, column = move // (size + 1), move % (size + 1)
  inside = jnp.stack([row > 0, row < size - 1, column > 0, column < size - 1])
  captured, joined = (ids * mover < 0) & only, ids * mover > 0
  space = (ids == 0) & inside
  legal = (space | captured | (joined & ~only)).any()
  within = lambda which: chains_lib.any_of(  # noqa: E731
    [(chains == ids[k]) & which[k] for k in range(4)]
  )
  gone = within(captured)
  new = jnp.where(within(joined) | (index == move), mover * (move + 1), jnp.where(gone, 0, chains))
  # A ko: one stone captured by one stone, which has no other liberty.
  single = (gone.sum(dtype=jnp.int32) == 1) & ~(joined | space).any()
  return new, legal, jnp.where(single, jnp.where(gone, index, 0).sum(dtype=jnp.int32), -1)


def _outcome(chains, prey, attacking, legal, size: int):
  """Returns what the board after a move decides; an illegal move is lost for whoever wanted it.

  After the attacker's move the chase goes on only if the prey is in atari (or gone); after the
  prey's only if it has two liberties.
  """
  chains = chains_lib.materialize(chains)
  is_prey, empty = _prey_and_empty(chains, prey, size)
  free = chains_lib.any_of(_neighbours(is_prey, size)) & empty
  count = free.sum(dtype=jnp.int32)
  after_prey = jnp.where(count >= 3, ESCAPED, jnp.where(count <= 1, CAUGHT, OPEN))
  after_attacker = jnp.where(count <= 1, OPEN, ESCAPED)
  if_illegal = jnp.where(attacking, ESCAPED, CAUGHT)
  return jnp.where(legal, jnp.where(attacking, after_attacker, after_prey), if_illegal)


# -------- all lanes --------


def _descend_or_return(lane: Lane, stack, tried: Tried):
  """Moves each lane to the child of its move, to its parent, or on at the same node.

  Returns:
    The lanes, the stack, and int32 `[lanes]` the outcome of queries that are decided, else OPEN.
  """
  boards, lasts, kos = stack
  who = jnp.arange(lane.depth.shape[0])
  down = (tried.result == OPEN) & (tried.outcome == OPEN)
  up = (tried.result != OPEN) & (lane.depth > 0)
  result = jnp.where(lane.depth == 0, tried.result, OPEN)

  here = jnp.where(down & (lane.query >= 0), lane.depth, boards.shape[1])  # else dropped
  boards = boards.at[who, here].set(lane.chains, mode='drop')
  lasts = lasts.at[who, here].set(tried.move, mode='drop')
  kos = kos.at[who, here].set(lane.ko, mode='drop')
  # Read after writing: the other way round XLA copies the whole stack.
  above = jnp.maximum(lane.depth - 1, 0)
  parent = (boards[who, above], lasts[who, above], kos[who, above])

  def choose(child, parent, same):
    return jnp.where(_per_lane(down, same), child, jnp.where(_per_lane(up, same), parent, same))

  lane = Lane(
    lane.query,
    choose(tried.chains, parent[0], lane.chains),
    lane.depth + down - up,
    choose(jnp.full_like(lane.last_tried, -1), parent[1], tried.move),
    choose(tried.ko, parent[2], lane.ko),
    jnp.where(down, OPEN, jnp.where(up, tried.result, tried.outcome)),
    lane.num_moves + 1,
  )
  return lane, (boards, lasts, kos), result
