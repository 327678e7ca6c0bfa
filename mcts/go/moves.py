"""Moves on a Go board: what they do, and which are legal.

Both questions are answered from the four neighbours of a point. `_chain_sums` holds, for each
chain, what a neighbour's chain has to tell, as uint32 `[N^2 + 1, 4]` by chain id:

  [:, 0], [:, 1]  the two words of its pseudo-liberties (`mcts.go.chains`)
  [:, 2], [:, 3]  the two words of its hash, the sum of its stones' Zobrist keys (`mcts.go.superko`)

`step` looks at one point and changes the board. `legal` looks at all points at once, without
playing any move: what a move captures and whether it has a liberty follow from the neighbours'
chains, and so does the change of the hash, which superko compares with the past.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.go import chains as chains_lib
from mcts.go import superko
from mcts.go.state import Rules, State, chains_of, done, stones_of, to_play


def step(rules: Rules, state: State, action: Array) -> State:
  """Returns the state after a legal move; a finished game stays as it is (unbatched).

  Args:
    rules: the options.
    state: before the move.
    action: int32 `[]`, a point row * N + column, or N^2 to pass.
  """
  over, player = done(rules, state), to_play(state)
  action = jnp.where(over, rules.points, action)  # places nothing
  chains, removed = chains_lib.materialize(*_place(rules, chains_of(state), action, 1 - 2 * player))
  record, record_high = _write(rules, state, action, removed, over)
  passes = jnp.where(action == rules.points, state.passes + 1, 0)
  return state._replace(
    chains=chains.astype(jnp.int16),
    record=record,
    record_high=record_high,
    num_entries=state.num_entries + (~over).astype(jnp.uint16),
    passes=jnp.where(over, state.passes, passes.astype(jnp.uint8)),
  )


def give_turn(rules: Rules, state: State) -> State:
  """Returns the state with the other player to move, as by a pass that never ends the game.

  For records and programs in which a player moves twice in a row. It takes an entry of the record.
  """
  passed = step(rules, state, jnp.int32(rules.points))
  return passed._replace(passes=jnp.where(done(rules, state), state.passes, jnp.uint8(0)))


def _place(rules: Rules, chains: Array, action: Array, sign: Array) -> tuple[Array, Array]:
  """Returns chains `[N^2]` after a stone of `sign` at `action`, and which stones were removed.

  These are bool `[N^2 + 1]`, the last for the pass and never true. The new chain's id is the point
  just played, which no other chain can have.
  """
  sums = _chain_sums(rules, chains_lib.add_border(chains, rules.size))
  around = jnp.asarray(chains_lib.neighbour_table(rules.size))[action]  # [4]
  ids = [jnp.pad(chains, (0, 1))[p] for p in around]  # beyond the edge: 0, as if empty
  liberties = [chains_lib.pseudo_liberty_count(sums[jnp.abs(i), 0]) for i in ids]
  # Whether the point is the neighbouring chain's only liberty.
  last = [n == k for n, k in zip(liberties, chains_lib.same_chain_counts(ids), strict=True)]
  own = [i * sign > 0 for i in ids]
  captured = [(i * sign < 0) & only for i, only in zip(ids, last, strict=True)]

  here = jnp.arange(rules.points) == action
  within = lambda which: chains_lib.any_of(  # noqa: E731
    [(chains == i) & w for i, w in zip(ids, which, strict=True)]
  )
  mine, gone = here | within(own), within(captured)
  new = jnp.where(mine, sign * (action + 1), jnp.where(gone, 0, chains))
  if rules.suicide:
    # The chain lives by a neighbour's other liberty, by what it captures, or by an empty point.
    breathes = [~c & o & ~only for c, o, only in zip(captured, own, last, strict=True)]
    space = ((jnp.pad(chains, (0, 1))[around] == 0) & (around < rules.points)).any()
    dies = ~(chains_lib.any_of(breathes + captured) | space)
    gone |= mine & dies
    new = jnp.where(gone, 0, new)
  placed = action < rules.points
  return jnp.where(placed, new, chains), jnp.pad(gone & placed, (0, 1))


def _chain_sums(rules: Rules, board: Array) -> Array:
  """Returns uint32 `[N^2 + 1, 4]`, as the top of this file says, of a bordered board of chains."""
  chains = chains_lib.drop_border_rows(board, rules.size)
  black, white = _padded_keys(rules)
  # Empty points get white's key; it goes to row 0, which is no chain's.
  keys = jnp.where((chains > 0)[:, None], black, white)
  liberties = jnp.stack(chains_lib.bordered_pseudo_liberties(board, rules.size), 1)
  # Liberties and hash side by side: one scatter instead of two.
  values = chains_lib.materialize(jnp.concatenate([liberties, keys], 1))
  return chains_lib.sum_by_chain(chains, values, rules.points)


def _padded_keys(rules: Rules) -> np.ndarray:
  """Returns uint32 `[2, N (N + 1), 2]`: black's and white's key of each point of a padded board."""
  keys = superko.zobrist_keys(rules.points).reshape(2, rules.points + 1, 2)[:, :-1]
  keys = keys.reshape(2, rules.size, rules.size, 2)
  return np.pad(keys, ((0, 0), (0, 0), (0, 1), (0, 0))).reshape(2, -1, 2)


def _write(rules: Rules, state: State, action, removed, over) -> tuple[Array, Array]:
  """Returns the packed record with one more entry, and the time of capture of what was removed."""
  point, captured_at = chains_lib.materialize(
    *rules.packing.unpack(state.record, state.record_high)
  )
  count = state.num_entries.astype(jnp.int32)
  entry = jnp.arange(rules.max_moves)
  now = (entry == count) & ~over  # [M]
  point = jnp.where(now, action, point)
  alive = (entry < count) & (captured_at == 0) | now  # a suicide's own stone goes at once
  # `removed` is false at the pass. Entries that are not in use yet hold anything, so 0 is written.
  captured_at = jnp.where(alive & removed[point], count + 1, jnp.where(now, 0, captured_at))
  return rules.packing.pack(point, captured_at)


# -------- legality --------


def legal(rules: Rules, state: State) -> Array:
  """Returns bool `[N^2 + 1]`: exactly the legal moves, superko included (unbatched).

  False everywhere once the game is over; before that a pass is always legal.
  """
  player, chains = to_play(state), chains_of(state)
  board = chains_lib.add_border(chains, rules.size)
  sums = _chain_sums(rules, board)[jnp.abs(board)]  # of its chain, for each stone
  sums = chains_lib.materialize(*(sums[:, i] for i in range(4)))  # four boards, each read 4 times
  allowed, delta = chains_lib.materialize(*_candidates(rules, board, sums, player))
  allowed, delta = (chains_lib.drop_padding(x, rules.size) for x in (allowed, delta))
  atari = chains_lib.in_atari(*(chains_lib.drop_border_rows(x, rules.size) for x in sums[:2]))
  atari = chains_lib.drop_padding(atari, rules.size)
  allowed &= ~_repeats(rules, state, chains, atari, player, delta)
  return jnp.append(allowed, True) & ~done(rules, state)


def _candidates(rules: Rules, board, sums, player: Array) -> tuple[Array, Array]:
  """Returns which moves are legal but for superko, and what each adds to the position's hash.

  Args:
    rules: the options.
    board: `[(N + 2)(N + 1)]`, bordered chains.
    sums: four bordered boards, `_chain_sums` of each stone's chain.
    player: int32 `[]`.

  Returns:
    bool `[N (N + 1)]` and uint32 `[2, N (N + 1)]`, padded boards.
  """
  size = rules.size
  # From here on what is asked of a point is asked of all points at once: neighbours are slices.
  ids = chains_lib.bordered_neighbours(board * (1 - 2 * player), size)  # own chains positive
  liberties = chains_lib.bordered_neighbours(chains_lib.pseudo_liberty_count(sums[0]), size)
  last = [n == k for n, k in zip(liberties, chains_lib.same_chain_counts(ids), strict=True)]
  captures = [(i < 0) & only for i, only in zip(ids, last, strict=True)]
  breathes = [(i > 0) & ~only for i, only in zip(ids, last, strict=True)]
  space = chains_lib.bordered_neighbours((board == 0) & chains_lib.is_point(size), size)
  lives = chains_lib.any_of(captures + breathes + space)
  # A chain that touches the point twice is taken from the hash once.
  removed = [c & f for c, f in zip(captures, chains_lib.is_first_of_chain(ids), strict=True)]
  if rules.suicide:
    own = [
      (i > 0) & f & ~lives for i, f in zip(ids, chains_lib.is_first_of_chain(ids), strict=True)
    ]
    removed = [r | o for r, o in zip(removed, own, strict=True)]
  keys = _padded_keys(rules)

  def change(word):
    parts = chains_lib.bordered_neighbours(sums[2 + word], size)
    lost = chains_lib.sum_of([jnp.where(r, x, 0) for r, x in zip(removed, parts, strict=True)])
    placed = jnp.where(player == 0, keys[0, :, word], keys[1, :, word])
    return jnp.where(lives, placed, 0) - lost  # a stone that dies at once adds nothing

  # The column of padding is empty too: `legal` drops it.
  empty = chains_lib.drop_border_rows(board, size) == 0
  return empty & (lives | rules.suicide), jnp.stack([change(0), change(1)])


def _repeats(rules: Rules, state: State, chains, atari, player, delta) -> Array:
  """Returns bool `[N^2]`: the moves after which the rule on repetition forbids the position.

  Args:
    rules: the options.
    state: the position.
    chains: int32 `[N^2]`.
    atari: bool `[N^2]`, stones whose chain has one liberty; the only ones a move may remove.
    player: int32 `[]`, who is to move.
    delta: uint32 `[2, N^2]`, what a move adds to the hash.
  """
  colour, point, captured_at = stones_of(rules, state)
  now, start = state.num_entries.astype(jnp.int32), state.num_setup.astype(jnp.int32)
  stone, captured_at = chains_lib.materialize(colour * (rules.points + 1) + point, captured_at)
  every = 2 if rules.superko == 'situational' else 1
  if rules.superko == 'simple':
    earliest, every = jnp.maximum(start, now - 1), 2  # the last position alone
  else:
    # What a move may remove: the opponent's chains in atari, and with suicide the player's own.
    atari &= rules.suicide | (chains * (1 - 2 * player) < 0)  # else own stones stay
    staying = jnp.stack([chains > 0, chains < 0]) & ~atari[None]
    earliest = superko.earliest_possible_repeat(stone, now, staying, rules.points)
    earliest = jnp.maximum(start, earliest)
  return superko.repeats(stone, captured_at, now, earliest, every, delta, rules.points)


def position_hash(rules: Rules, state: State) -> Array:
  """Returns uint32 `[2]`: the sum of the Zobrist keys of the stones on the board."""
  chains = chains_of(state)
  board = chains_lib.add_border(chains, rules.size)
  return _chain_sums(rules, board)[1:, 2:].sum(0, dtype=jnp.uint32)
