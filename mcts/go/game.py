"""Go by exact rules (docs/go_rules.md): superko in the mask of legal moves, area scoring.

Actions are row * N + column with row 0 at the top, and N^2 for the pass.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts import symmetry
from mcts.game import Game
from mcts.go import chains as chains_lib
from mcts.go import notation
from mcts.go.moves import give_turn, legal, position_hash, step
from mcts.go.planes import Node, observe, pack, past_boards, unpack
from mcts.go.state import Rules, State, chains_of, done, to_play

SIZES = range(2, 26)
SUPERKO = ('positional', 'situational', 'simple')


class Go(Game):
  """The game on a board of size N, with what Go has beside the contract.

  superko: 'positional' (no board may repeat), 'situational' (none with the same player to move) or
    'simple' (none may be as before the opponent's last turn).
  suicide: whether a move may remove its own chain.
  max_moves: M, the game ends after so many turns, 2 N^2 unless told, and is scored as it stands;
    stones set up count as turns. The state's size grows with it.
  komi: what `init` gives white unless told.
  history: how many boards `observe` shows, 8 for AlphaGo Zero's 17 planes.
  """

  def __init__(
    self,
    size: int = 9,
    superko: str = 'positional',
    suicide: bool = False,
    max_moves: int | None = None,
    komi: float = 7.5,
    history: int = 8,
  ):
    max_moves = 2 * size * size if max_moves is None else max_moves
    _check_options(size, superko, max_moves, history)
    rules = Rules(size, superko, suicide, max_moves, history)
    bind = functools.partial
    super().__init__(
      name=f'go{size}',
      num_actions=size * size + 1,
      max_length=max_moves,
      init=bind(init, rules, komi),
      step=bind(step, rules),
      legal=bind(legal, rules),
      done=bind(done, rules),
      value=bind(value, rules),
      observe=bind(observe, rules),
      to_play=to_play,
      render=bind(render, rules),
      pack=bind(pack, rules),
      unpack=bind(unpack, rules),
      symmetries=symmetry.SQUARE,
      rollout_legal=bind(rollout_legal, rules),
      action_name=bind(notation.to_vertex, size=size),
      aux_targets=bind(aux_targets, rules),
    )
    object.__setattr__(self, 'rules', rules)
    object.__setattr__(self, 'size', size)
    for function in (board, score, ownership, give_turn, from_position, replay, position_hash):
      object.__setattr__(self, function.__name__, bind(function, rules))


def _check_options(size, superko, max_moves, history):
  if size not in SIZES:
    raise ValueError(f'size {size!r}: must be from {SIZES[0]} to {SIZES[-1]}')
  if superko not in SUPERKO:
    raise ValueError(f'superko {superko!r}: choose from {", ".join(SUPERKO)}')
  if not 1 <= max_moves < 2**16 - 1:
    raise ValueError(f'max_moves {max_moves!r}: must be from 1 to {2**16 - 2}')
  if not 1 <= history <= 16:
    raise ValueError(f'history {history!r}: must be from 1 to 16 boards')


# -------- beginning --------


def init(rules: Rules, default_komi: float, komi=None) -> State:
  """The empty board, black to move; `komi` may be traced (under `shard_map` all varies as it)."""
  komi = jnp.asarray(default_komi if komi is None else komi, jnp.float32)
  zeros = functools.partial(jnp.zeros_like, komi)
  return State(
    chains=zeros(jnp.int16, shape=rules.points),
    record=zeros(jnp.uint16, shape=rules.packing.turns),
    record_high=zeros(jnp.uint32, shape=rules.packing.words),
    count=zeros(jnp.uint16),
    start=zeros(jnp.uint16),
    blacks=zeros(jnp.uint16),
    first=zeros(jnp.uint8),
    passes=zeros(jnp.uint8),
    komi=komi,
  )


def from_position(rules: Rules, board, to_play=0, komi=7.5) -> State:
  """A game that begins from stones set up, such as a handicap: `board` `[N, N]` as `board` gives.

  Earlier positions are unknown, so superko does not forbid them. Raises ValueError if a chain has
  no liberty or the stones fill the record, unless `board` is traced.
  """
  if not isinstance(board, jax.core.Tracer):
    check_position(rules, np.asarray(board))
  stones = jnp.asarray(board).reshape(-1)
  order = jnp.argsort(jnp.select([stones > 0, stones < 0], [0, 1], 2), stable=True)
  turns = rules.max_moves
  point = jnp.pad(order, (0, max(0, turns - rules.points)))[:turns]
  start, blacks = jnp.sum(stones != 0), jnp.sum(stones > 0)
  record, record_high = rules.packing.pack(
    jnp.where(jnp.arange(turns) < start, point, 0), jnp.zeros_like(point)
  )
  return State(
    chains=chains_lib.label(stones, rules.size).astype(jnp.int16),
    record=record,
    record_high=record_high,
    count=start.astype(jnp.uint16),
    start=start.astype(jnp.uint16),
    blacks=blacks.astype(jnp.uint16),
    first=jnp.asarray(to_play, jnp.uint8),
    passes=jnp.zeros_like(start, jnp.uint8),
    komi=jnp.asarray(komi, jnp.float32),
  )


def check_position(rules: Rules, board: np.ndarray):
  if board.shape != (rules.size, rules.size):
    raise ValueError(f'a board of shape {board.shape}: must be {rules.size} x {rules.size}')
  if np.count_nonzero(board) >= rules.max_moves:
    raise ValueError(
      f'{np.count_nonzero(board)} stones set up: must be fewer than max_moves, {rules.max_moves}'
    )
  free = board == 0
  while True:
    wide = np.pad(free, 1)
    tone = np.pad(np.sign(board), 1)
    grown = free.copy()
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
      there = (slice(y, y + rules.size), slice(x, x + rules.size))
      grown |= wide[there] & ((board * tone[there] > 0) | (tone[there] == 0))
    if (grown == free).all():
      break
    free = grown
  if not free.all():
    row, column = np.argwhere(~free)[0]
    raise ValueError(f'the stone at row {row}, column {column} is in a chain without liberty')


# -------- the end --------


def board(rules: Rules, state: State) -> Array:
  """int8 `[N, N]`: 1 black, -1 white, 0 empty."""
  return jnp.sign(chains_of(state)).astype(jnp.int8).reshape(rules.size, rules.size)


def ownership(rules: Rules, state: State) -> Array:
  """int8 `[N, N]`: 1 in black's area, -1 in white's, 0 in neither."""
  black, white = chains_lib.areas(chains_of(state), rules.size)
  owner = black.astype(jnp.int8) - white.astype(jnp.int8)
  return owner.reshape(rules.size, rules.size)


def score(rules: Rules, state: State) -> Array:
  """float32 `[]`: black's area less white's area less komi, of the board as it stands."""
  return ownership(rules, state).sum(dtype=jnp.int32).astype(jnp.float32) - state.komi


def value(rules: Rules, state: State) -> Array:
  return jnp.sign(score(rules, state)) * (1 - 2 * to_play(state))


def aux_targets(rules: Rules, state: State) -> dict[str, Array]:
  """Returns what auxiliary heads learn of a finished game, `ownership` and `score`, for black."""
  return {'ownership': ownership(rules, state), 'score': score(rules, state)}


# -------- play --------


def own_eyes(rules: Rules, state: State) -> Array:
  """Returns bool `[N^2]`, the eyes of the player to move; see `chains.eyes`."""
  player = (1 - 2 * to_play(state)).astype(state.chains.dtype)
  return chains_lib.eyes(state.chains * player, rules.size)


def rollout_legal(rules: Rules, state: State) -> Array:
  """Returns bool `[A]`: legal points that are no eyes of one's own; a pass if there are none."""
  points = legal(rules, state)[:-1] & ~own_eyes(rules, state)
  return jnp.append(points, ~points.any())


def render(rules: Rules, state: State) -> str:
  """Returns the board with its coordinates, black as X and white as O."""
  return notation.board(np.asarray(board(rules, state))).rstrip('\n')


# -------- whole games --------


def replay(rules: Rules, state: State, moves: Array, players: Array | None = None):
  """Plays `moves` int32 `[T]`, of `players` `[T]` (0, 1) where given; -1 is no move.

  The last state, and bool `[T]`, whether each move was legal; one that is not is left out. A player
  who moves twice in a row is given the turn by `give_turn`.
  """

  def play(state, turn):
    move, player = turn
    if players is not None:
      other = (player != to_play(state)) & (move >= 0)
      given = give_turn(rules, state)
      state = jax.tree.map(lambda a, b: jnp.where(other, a, b), given, state)
    allowed = legal(rules, state)[jnp.maximum(move, 0)] & (move >= 0)
    new = step(rules, state, jnp.maximum(move, 0))
    state = jax.tree.map(lambda a, b: jnp.where(allowed, a, b), new, state)
    return state, allowed | (move < 0)

  return lax.scan(play, state, (moves, moves if players is None else players))


__all__ = ['SIZES', 'SUPERKO', 'Go', 'Node', 'Rules', 'State', 'past_boards']
