"""Ladders on a Go board, read to their end, for a whole batch of boards at once.

A ladder is a chase: the attacker may only give atari to the prey, a chain with two liberties. The
prey may run to its last liberty or capture a chain that touches it. It has escaped with three
liberties, and is caught with one when the attacker is to move. Ko is forbidden to retake at once.

The search is depth first, and exact but for two bounds: a chase of more than `DEPTH` N plies, or a
read of more than `NODES` moves, counts as an escape. The boards of a batch differ much in what
there is to read, so their questions form one queue, and a few lanes take from it as they come free.

Boards here have an empty column more than the board at their right, `[N (N + 1)]`: then all
neighbours lie at fixed distances, and what is beyond an edge is that column or nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.go import chains as chains_lib

DEPTH = 8  # times N; across the board and back
NODES = 2000
LANES = 16  # on a CPU; elsewhere one for each board, up to MANY
MANY = 1024

CAPTURE, ESCAPE = 0, 1
OPEN, CAUGHT, ESCAPED = 0, 1, 2


class Lane(NamedTuple):
  """One read under way; every leaf has a leading axis of lanes. A node is a board with its mover.

  question: int32, index into all questions, -1 for a lane without work.
  chains: int16 `[N (N + 1)]`, the board of the node, the attacker's chains positive.
  depth: int32, 0 at the root, where there is one move only.
  last: int32, the point tried last at this node; points are tried in their order.
  ko: int32, the point that the mover may not take, -1 for none.
  value: int32, what the point tried last led to; OPEN if none was.
  nodes: int32, moves made so far.
  """

  question: Array
  chains: Array
  depth: Array
  last: Array
  ko: Array
  value: Array
  nodes: Array


class Question(NamedTuple):
  """Does a stone at `point` catch or save the chain with the stone at `prey`? kind: which."""

  kind: Array
  point: Array
  prey: Array


def read(chains: Array, players: Array, prey: Array, kinds: np.ndarray, size: int) -> Array:
  """bool `[B, N^2, Q]`: whether the answer is yes; false where there is no question.

  chains: `[B, N^2]` as in `mcts.go.chains`. players: `[B]`, 1 or -1, to move.
  prey: int32 `[B, N^2, Q]`: of a move at each point up to Q questions: the chain's (absolute) name
    that may be caught (where kinds is CAPTURE) or saved (ESCAPE), 0 for no question.
  kinds: int `[Q]`.
  """
  batch, points, per_point = prey.shape
  names, per_board = prey.reshape(-1), points * per_point
  queue, count = _queue(names)
  lanes = min(LANES if jax.default_backend() == 'cpu' else MANY, max(batch, 4))
  boards = _widen(chains * players.astype(chains.dtype)[:, None], size)

  def attacked(index):  # the board of a question, the attacker's chains positive
    escape = jnp.asarray(kinds)[index % per_point] == ESCAPE
    return boards[index // per_board] * jnp.where(escape, -1, 1).astype(jnp.int16)[:, None]

  def question(index):
    index = jnp.maximum(index, 0)
    point, stone = index // per_point % points, names[index].astype(jnp.int32) - 1
    return Question(
      jnp.asarray(kinds)[index % per_point], *(_wide(x, size) for x in (point, stone))
    )

  def turn(carry):
    lane, stack, taken, yes = carry
    lane, taken = _fetch(lane, taken, queue, count, attacked)
    asked = question(lane.question)
    found = jax.vmap(lambda *x: _step(*x, size))(lane, asked)
    lane, stack, result = _move(lane, stack, found)
    answer = (result == CAUGHT) == (asked.kind == CAPTURE)
    done = (result != OPEN) & (lane.question >= 0)
    yes = yes.at[jnp.where(done, lane.question, names.shape[0])].set(answer, mode='drop')
    return lane._replace(question=jnp.where(done, -1, lane.question)), stack, taken, yes

  def busy(carry):
    return (carry[2] < count) | (carry[0].question >= 0).any()

  start = (_idle(names, lanes, size), _stack(names, lanes, size), jnp.zeros_like(count), names < 0)
  return lax.while_loop(busy, turn, start)[-1].reshape(prey.shape)


def _queue(names):
  """The places of all questions, in order, and how many there are."""
  asked = names > 0
  rank = jnp.cumsum(asked, dtype=jnp.int32)
  queue = (
    jnp.zeros_like(rank)
    .at[jnp.where(asked, rank - 1, rank.shape[0])]
    .set(jnp.arange(rank.shape[0], dtype=jnp.int32), mode='drop')
  )
  return queue, rank[-1]


def _wide(point, size: int):
  """Where a point of the board lies among N (N + 1)."""
  return point + point // size


def _widen(chains, size: int):
  """Boards `[B, N^2]` as int16 `[B, N (N + 1)]`; chains are named after points there."""
  name = jnp.where(chains == 0, 0, jnp.sign(chains) * (_wide(jnp.abs(chains) - 1, size) + 1))
  name = name.astype(jnp.int16).reshape(-1, size, size)
  return jnp.pad(name, ((0, 0), (0, 0), (0, 1))).reshape(-1, size * (size + 1))


def _idle(like, lanes: int, size: int) -> Lane:
  zero = jnp.zeros_like(like, jnp.int32, shape=lanes)
  board = jnp.zeros_like(like, jnp.int16, shape=(lanes, size * (size + 1)))
  return Lane(zero - 1, board, zero, zero - 1, zero - 1, zero, zero)


def _stack(like, lanes: int, size: int):
  """The nodes above the present one: their boards `[lanes, D, N (N + 1)]`, and `last` and `ko`."""
  shape = (lanes, DEPTH * size)
  return (
    jnp.zeros_like(like, jnp.int16, shape=(*shape, size * (size + 1))),
    jnp.zeros_like(like, jnp.int32, shape=shape),
    jnp.zeros_like(like, jnp.int32, shape=shape),
  )


def _fetch(lane: Lane, taken, queue, count, attacked):
  """Idle lanes take the next questions of the queue while there are any."""
  idle = lane.question < 0
  place = taken + jnp.cumsum(idle, dtype=jnp.int32) - 1
  new = idle & (place < count)
  index = jnp.where(new, queue[jnp.minimum(place, queue.shape[0] - 1)], 0)
  whole = lambda x: jnp.full_like(index, x)  # noqa: E731
  fresh = Lane(index, attacked(index), whole(0), whole(-1), whole(-1), whole(OPEN), whole(0))
  lane = jax.tree.map(lambda a, b: jnp.where(_per(new, a), a, b), fresh, lane)
  return lane, taken + new.sum(dtype=jnp.int32)


def _per(lanes, like):
  """`[lanes]` shaped to be chosen by against `[lanes, ...]`."""
  return lanes.reshape(-1, *[1] * (like.ndim - 1))


# -------- one move of one lane, unbatched --------


class Found(NamedTuple):
  """result: of the node, if it is now known. value: of the move. The rest: where it leads."""

  result: Array
  value: Array
  move: Array
  chains: Array
  ko: Array


def _step(lane: Lane, asked: Question, size: int) -> Found:
  """Tries the next point of the node."""
  index = np.arange(size * (size + 1), dtype=np.int32)
  attacking = (lane.depth + asked.kind) % 2 == 0
  chains = chains_lib.materialize(lane.chains.astype(jnp.int32))
  hunted = (chains == chains[asked.prey]) & (chains != 0)
  empty = (chains == 0) & (index % (size + 1) < size)
  beside = chains_lib.materialize(chains_lib.any_of(_sides(hunted, size)))
  free = sum(_sides(chains_lib.materialize(empty.astype(jnp.int32)), size))
  # Of each stone's chain: its pseudo-liberties, and whether it is beside the prey.
  sums = jnp.zeros_like(chains, shape=(chains.shape[0] + 1,))
  sums = sums.at[jnp.abs(chains)].add(chains_lib.materialize(free + beside * BESIDE))
  sums = chains_lib.materialize(sums[jnp.abs(chains)])
  around = _sides(chains, size)
  own = [x & (BESIDE - 1) for x in _sides(sums, size)]
  last = [n == k for n, k in zip(own, chains_lib.same_chain_counts(around), strict=True)]
  near = [x >= BESIDE for x in _sides(sums, size)]
  rescue = [(i > 0) & x & t for i, x, t in zip(around, last, near, strict=True)]
  moves = empty & (beside | (chains_lib.any_of(rescue) & ~attacking))
  moves = jnp.where(lane.depth == 0, index == asked.point, moves) & (index > lane.last)
  move = jnp.where(moves, index, index[-1] + 1).min()
  left, move = move <= index[-1], jnp.minimum(move, index[-1])

  ids, only = (jnp.stack([x[move] for x in xs]) for xs in (around, last))  # [4]
  new, legal, ko = _play(chains, ids, only, move, jnp.where(attacking, 1, -1), size)
  legal &= move != lane.ko
  value = _value(new, asked.prey, attacking, legal, size)
  deep = (lane.depth + 1 >= DEPTH * size) | (lane.nodes >= NODES)
  value = jnp.where((value == OPEN) & deep, ESCAPED, value)

  good = jnp.where(attacking, CAUGHT, ESCAPED)  # for the mover: then no other move needs a try
  bad = jnp.where(attacking, ESCAPED, CAUGHT)
  result = jnp.where(left, jnp.where(value == good, good, OPEN), bad)
  result = jnp.where(lane.value == good, good, result)
  return Found(result, value, move, new.astype(jnp.int16), ko)


BESIDE = 1 << 12  # more than all pseudo-liberties of a chain


def _sides(x, size: int) -> list[Array]:
  """Of `[N (N + 1)]` the values above, below, left and right, zero beyond the edge."""
  width, length = size + 1, x.shape[0]
  padded = jnp.pad(x, width)
  return [padded[start : start + length] for start in (0, 2 * width, width - 1, width + 1)]


def _play(chains, ids, only, move, mover, size: int):
  """The board after a move, whether it was legal but for ko, and the point of a new ko.

  ids, only: `[4]`, the chains beside the point, and whether it is their only liberty.
  """
  index = np.arange(chains.shape[0], dtype=np.int32)
  row, column = move // (size + 1), move % (size + 1)
  inside = jnp.stack([row > 0, row < size - 1, column > 0, column < size - 1])
  taken, joined = (ids * mover < 0) & only, ids * mover > 0
  space = (ids == 0) & inside
  legal = (space | taken | (joined & ~only)).any()
  within = lambda which: chains_lib.any_of(  # noqa: E731
    [(chains == ids[k]) & which[k] for k in range(4)]
  )
  gone = within(taken)
  new = jnp.where(within(joined) | (index == move), mover * (move + 1), jnp.where(gone, 0, chains))
  single = (gone.sum(dtype=jnp.int32) == 1) & ~(joined | space).any()
  return new, legal, jnp.where(single, jnp.where(gone, index, 0).sum(dtype=jnp.int32), -1)


def _value(chains, prey, attacking, legal, size: int):
  """What a move has decided: an illegal one is lost for whoever wanted it."""
  chains = chains_lib.materialize(chains)
  hunted = (chains == chains[prey]) & (chains != 0)
  empty = (chains == 0) & (np.arange(chains.shape[0]) % (size + 1) < size)
  free = chains_lib.any_of(_sides(hunted, size)) & empty
  count = free.sum(dtype=jnp.int32)
  ran = jnp.where(count >= 3, ESCAPED, jnp.where(count <= 1, CAUGHT, OPEN))
  given = jnp.where(count <= 1, OPEN, ESCAPED)
  refused = jnp.where(attacking, ESCAPED, CAUGHT)
  return jnp.where(legal, jnp.where(attacking, given, ran), refused)


# -------- all lanes --------


def _move(lane: Lane, stack, found: Found):
  """Each lane down to a child, up to the parent, or on at the same node; results of roots."""
  boards, lasts, kos = stack
  who = jnp.arange(lane.depth.shape[0])
  down = (found.result == OPEN) & (found.value == OPEN)
  up = (found.result != OPEN) & (lane.depth > 0)
  result = jnp.where(lane.depth == 0, found.result, OPEN)

  here = jnp.where(down & (lane.question >= 0), lane.depth, boards.shape[1])  # else dropped
  boards = boards.at[who, here].set(lane.chains, mode='drop')
  lasts = lasts.at[who, here].set(found.move, mode='drop')
  kos = kos.at[who, here].set(lane.ko, mode='drop')
  # Read after writing: the other way round XLA copies the whole stack.
  above = jnp.maximum(lane.depth - 1, 0)
  parent = (boards[who, above], lasts[who, above], kos[who, above])

  def choose(child, parent, same):
    return jnp.where(_per(down, same), child, jnp.where(_per(up, same), parent, same))

  lane = Lane(
    lane.question,
    choose(found.chains, parent[0], lane.chains),
    lane.depth + down - up,
    choose(jnp.full_like(lane.last, -1), parent[1], found.move),
    choose(found.ko, parent[2], lane.ko),
    jnp.where(down, OPEN, jnp.where(up, found.result, found.value)),
    lane.nodes + 1,
  )
  return lane, (boards, lasts, kos), result
