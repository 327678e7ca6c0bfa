"""Moves on a Go board: what they do, and which are legal."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.go import chains as chains_lib
from mcts.go import superko
from mcts.go.state import Rules, State, chains_of, done, stones_of, to_play


def step(rules: Rules, state: State, action: Array) -> State:
  """The board, the record and the clock after a legal move, or of a finished game as they are."""
  over, me = done(rules, state), to_play(state)
  action = jnp.where(over, rules.points, action)
  chains, removed = chains_lib.in_memory(*_place(rules, chains_of(state), action, 1 - 2 * me))
  record = _write(rules, state, action, removed, over)
  passes = jnp.where(action == rules.points, state.passes + 1, 0)
  return state._replace(
    chains=chains.astype(jnp.int16),
    record=record[0],
    record_high=record[1],
    count=state.count + (~over).astype(jnp.uint16),
    passes=jnp.where(over, state.passes, passes.astype(jnp.uint8)),
  )


def give_turn(rules: Rules, state: State) -> State:
  """The other player to move, as if by a pass that does not count towards the end.

  For records and programs in which a player moves twice in a row.
  """
  passed = step(rules, state, jnp.int32(rules.points))
  return passed._replace(passes=jnp.where(done(rules, state), state.passes, jnp.uint8(0)))


def _place(rules: Rules, chains: Array, action: Array, sign: Array) -> tuple[Array, Array]:
  """The board after a stone of `sign` at `action`, and bool `[N^2 + 1]` which stones went."""
  sums = _sums(rules, chains_lib.border(chains, rules.size))
  around = jnp.asarray(chains_lib.neighbour_table(rules.size))[action]  # [4]
  ids = [jnp.pad(chains, (0, 1))[p] for p in around]
  free = [chains_lib.count_of(sums[jnp.abs(i), 0]) for i in ids]
  last = [n == k for n, k in zip(free, chains_lib.shared(ids), strict=True)]
  own = [i * sign > 0 for i in ids]
  captured = [(i * sign < 0) & only for i, only in zip(ids, last, strict=True)]

  here = jnp.arange(rules.points) == action
  within = lambda which: chains_lib.any_of(  # noqa: E731
    [(chains == i) & w for i, w in zip(ids, which, strict=True)]
  )
  mine, gone = here | within(own), within(captured)
  new = jnp.where(mine, sign * (action + 1), jnp.where(gone, 0, chains))
  if rules.suicide:
    breathes = [~c & o & ~only for c, o, only in zip(captured, own, last, strict=True)]
    space = ((jnp.pad(chains, (0, 1))[around] == 0) & (around < rules.points)).any()
    dies = ~(chains_lib.any_of(breathes + captured) | space)
    gone |= mine & dies
    new = jnp.where(gone, 0, new)
  placed = action < rules.points
  return jnp.where(placed, new, chains), jnp.pad(gone & placed, (0, 1))


def _sums(rules: Rules, board: Array) -> Array:
  """uint32 `[N^2 + 1, 4]`, of each chain the sums of `liberties` and the two words of its hash.

  board: chains with border.
  """
  chains = chains_lib.middle(board, rules.size)
  keys = _bordered_keys(rules)
  keys = jnp.where((chains > 0)[:, None], keys[0], keys[1])
  liberties = jnp.stack(chains_lib.bordered_liberties(board, rules.size), 1)
  values = chains_lib.in_memory(jnp.concatenate([liberties, keys], 1))
  return chains_lib.sums_by_chain(chains, values, rules.points)


def _bordered_keys(rules: Rules) -> np.ndarray:
  """uint32 `[2, N (N + 1), 2]`, black's and white's key of each point, 0 beyond the edge."""
  keys = superko.keys(rules.points).reshape(2, rules.points + 1, 2)[:, :-1]
  keys = keys.reshape(2, rules.size, rules.size, 2)
  return np.pad(keys, ((0, 0), (0, 0), (0, 1), (0, 0))).reshape(2, -1, 2)


def _write(rules: Rules, state: State, action, removed, over) -> tuple[Array, Array]:
  """The record with one more entry, and with the time of their capture for those removed."""
  point, gone = chains_lib.in_memory(*rules.packing.unpack(state.record, state.record_high))
  count = state.count.astype(jnp.int32)
  entry = jnp.arange(rules.max_moves)
  now = (entry == count) & ~over
  point = jnp.where(now, action, point)
  alive = (entry < count) & (gone == 0) | now
  gone = jnp.where(alive & removed[point], count + 1, jnp.where(now, 0, gone))
  return rules.packing.pack(point, gone)


# -------- legality --------


def legal(rules: Rules, state: State) -> Array:
  """bool `[N^2 + 1]`: exactly the legal moves."""
  me, chains = to_play(state), chains_of(state)
  board = chains_lib.border(chains, rules.size)
  sums = _sums(rules, board)[jnp.abs(board)]  # of its chain
  sums = chains_lib.in_memory(*(sums[:, i] for i in range(4)))
  allowed, delta = chains_lib.in_memory(*_candidates(rules, board, sums, me))
  allowed, delta = (chains_lib.inside(x, rules.size) for x in (allowed, delta))
  endangered = chains_lib.in_atari(*(chains_lib.middle(x, rules.size) for x in sums[:2]))
  endangered = chains_lib.inside(endangered, rules.size)
  allowed &= ~_repeats(rules, state, chains, endangered, me, delta)
  return jnp.append(allowed, True) & ~done(rules, state)


def _candidates(rules: Rules, board, sums, me: Array) -> tuple[Array, Array]:
  """bool `[N (N + 1)]`, whether a move there is legal but for superko, and uint32 `[2, N (N + 1)]`,
  what it adds to the position's hash.

  board: chains with border; sums: four times the same shape, `_sums` of each stone's chain.
  """
  size = rules.size
  ids = chains_lib.sides(board * (1 - 2 * me), size)
  free = chains_lib.sides(chains_lib.count_of(sums[0]), size)
  last = [n == k for n, k in zip(free, chains_lib.shared(ids), strict=True)]
  captures = [(i < 0) & only for i, only in zip(ids, last, strict=True)]
  breathes = [(i > 0) & ~only for i, only in zip(ids, last, strict=True)]
  space = chains_lib.sides((board == 0) & chains_lib.on_board(size), size)
  lives = chains_lib.any_of(captures + breathes + space)
  removed = [c & f for c, f in zip(captures, chains_lib.firsts(ids), strict=True)]
  if rules.suicide:
    own = [(i > 0) & f & ~lives for i, f in zip(ids, chains_lib.firsts(ids), strict=True)]
    removed = [r | o for r, o in zip(removed, own, strict=True)]
  keys = _bordered_keys(rules)

  def change(word):
    parts = chains_lib.sides(sums[2 + word], size)
    lost = sum(jnp.where(r, x, 0) for r, x in zip(removed, parts, strict=True))
    placed = jnp.where(me == 0, keys[0, :, word], keys[1, :, word])
    return jnp.where(lives, placed, 0) - lost  # one that dies adds nothing

  empty = chains_lib.middle(board, size) == 0
  return empty & (lives | rules.suicide), jnp.stack([change(0), change(1)])


def _repeats(rules: Rules, state: State, chains, endangered, me, delta) -> Array:
  """bool `[N^2]`: the moves after which the rule on repetition forbids the position."""
  colour, point, gone = stones_of(rules, state)
  count, start = state.count.astype(jnp.int32), state.start.astype(jnp.int32)
  stone, gone = chains_lib.in_memory(colour * (rules.points + 1) + point, gone)
  every = 2 if rules.superko == 'situational' else 1  # there, those with the opponent to move
  if rules.superko == 'simple':
    low, every = jnp.maximum(start, count - 1), 2
  else:
    endangered &= rules.suicide | (chains * (1 - 2 * me) < 0)
    staying = jnp.stack([chains > 0, chains < 0]) & ~endangered[None]
    low = jnp.maximum(start, superko.earliest(stone, count, staying, rules.points))
  return superko.repeats(stone, gone, count, low, every, delta, rules.points)


def position_hash(rules: Rules, state: State) -> Array:
  """uint32 `[2]`: the sum of the keys of the stones on the board."""
  chains = chains_of(state)
  board = chains_lib.border(chains, rules.size)
  return _sums(rules, board)[1:, 2:].sum(0, dtype=jnp.uint32)
