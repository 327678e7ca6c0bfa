"""The game of Go by exact rules (docs/go_rules.md): superko in the legal moves, area scoring.

Actions are row * N + column with row 0 at the top, and N^2 to pass. Player 0 is black.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts import symmetry
from mcts.game import Game
from mcts.go import chains as chains_lib
from mcts.go import moves, notation, planes
from mcts.go.state import Rules, State, chains_of, done, to_play

SIZES = range(2, 26)
MAX_KOMI, KOMI_DECIMALS = 1000, 3  # 25 x 25 are 625 points
SUPERKO = ('positional', 'situational', 'simple')


class Go(Game):
  """Go on a board of N x N points, with what it has beside the contract of `mcts.game.Game`.

  Attributes:
    rules: the options, which are constants of compiled programs.
    size: N.
  """

  rules: Rules
  size: int

  def __init__(
    self,
    size: int = 9,
    superko: str = 'positional',
    suicide: bool = False,
    max_moves: int | None = None,
    komi: float = 7.5,
    history: int = 8,
  ):
    """Makes the game.

    Args:
      size: N, from 2 to 25.
      superko: 'positional' (no board may repeat), 'situational' (none with the same player to move)
        or 'simple' (none may be as before the opponent's last turn).
      suicide: whether a move may remove its own chain.
      max_moves: M, the game ends after so many turns and is scored as it stands; 2 N^2 if None.
        Stones set up count as turns. The state's size grows with it.
      komi: what `init` gives white by default.
      history: how many boards `observe` shows, 8 for AlphaGo Zero's 17 planes.

    Raises:
      ValueError: if an option is out of range.
    """
    max_moves = 2 * size * size if max_moves is None else max_moves
    _check_options(size, superko, max_moves, history)
    check_komi(komi)
    rules = Rules(size, superko, suicide, max_moves, history)
    bind = functools.partial
    super().__init__(
      name=f'go{size}',
      num_actions=size * size + 1,
      max_length=max_moves,
      init=bind(init, rules, komi),
      step=bind(moves.step, rules),
      legal=bind(moves.legal, rules),
      done=bind(done, rules),
      value=bind(value, rules),
      observe=bind(planes.observe, rules),
      to_play=to_play,
      render=bind(render, rules),
      pack=bind(planes.pack, rules),
      unpack=bind(planes.unpack, rules),
      symmetries=symmetry.SQUARE,
      rollout_legal=bind(rollout_legal, rules),
      action_name=bind(notation.to_vertex, size=size),
      aux_targets=bind(aux_targets, rules),
    )
    object.__setattr__(self, 'rules', rules)
    object.__setattr__(self, 'size', size)

  def board(self, state: State) -> Array:
    """Returns int8 `[N, N]`: 1 black, -1 white, 0 empty."""
    return jnp.sign(chains_of(state)).astype(jnp.int8).reshape(self.size, self.size)

  def ownership(self, state: State) -> Array:
    """Returns int8 `[N, N]`: 1 in black's area, -1 in white's, 0 in neither."""
    return _ownership(self.rules, state)

  def score(self, state: State) -> Array:
    """Returns float32 `[]`: black's area less white's less komi, of the board as it stands."""
    return _score(self.rules, state)

  def own_eyes(self, state: State) -> Array:
    """Returns bool `[N^2]`: the simple eyes of the player to move (`chains.eyes`)."""
    return _own_eyes(self.rules, state)

  def position_hash(self, state: State) -> Array:
    """Returns uint32 `[2]`, the Zobrist hash of the board."""
    return moves.position_hash(self.rules, state)

  def give_turn(self, state: State) -> State:
    """Returns the state with the other player to move, for records without alternation."""
    return moves.give_turn(self.rules, state)

  def from_position(self, board: Array | np.ndarray, to_play=0, komi=7.5) -> State:
    """Returns a game that begins from stones set up, such as a handicap.

    Earlier positions are unknown, so superko does not forbid them.

    Args:
      board: `[N, N]`, 1 black, -1 white, 0 empty; may be traced.
      to_play: who is to move, 0 for black or 1 for white; may be traced.
      komi: added to white's score; may be traced.

    Raises:
      ValueError: if a chain has no liberty or the stones fill the record, unless `board` is traced.
    """
    if not isinstance(board, jax.core.Tracer):
      check_position(self.rules, np.asarray(board))
    return from_position(self.rules, board, to_play, komi)

  def replay(self, state: State, moves: Array, players: Array | None = None) -> tuple[State, Array]:
    """Returns the state after `moves`, and bool `[T]` which of them were legal.

    An illegal move is left out. A player who moves twice in a row is given the turn by `give_turn`.

    Args:
      state: before the first move.
      moves: int32 `[T]`, actions; -1 is no move.
      players: `[T]`, 0 or 1, who moves; by default the players alternate.
    """

    def play(state, turn):
      move, player = turn
      if players is not None:
        other = (player != self.to_play(state)) & (move >= 0)
        given = self.give_turn(state)
        state = jax.tree.map(lambda a, b: jnp.where(other, a, b), given, state)
      allowed = self.legal(state)[jnp.maximum(move, 0)] & (move >= 0)
      new = self.step(state, jnp.maximum(move, 0))
      state = jax.tree.map(lambda a, b: jnp.where(allowed, a, b), new, state)
      return state, allowed | (move < 0)

    return lax.scan(play, state, (moves, moves if players is None else players))


def _check_options(size, superko, max_moves, history):
  if size not in SIZES:
    raise ValueError(f'size {size!r}: must be from {SIZES[0]} to {SIZES[-1]}')
  if superko not in SUPERKO:
    raise ValueError(f'superko {superko!r}: choose from {", ".join(SUPERKO)}')
  if not 1 <= max_moves < 2**16 - 1:
    raise ValueError(f'max_moves {max_moves!r}: must be from 1 to {2**16 - 2}')
  if not 1 <= history <= 16:
    raise ValueError(f'history {history!r}: must be from 1 to 16 boards')


def check_komi(komi: float) -> None:
  """Checks that float32, in which states keep it, decides games by this komi and no other.

  Raises:
    ValueError: it is not finite, too large, or has so many decimals that rounding makes draws.
  """
  if not (abs(komi) <= MAX_KOMI and round(komi, KOMI_DECIMALS) == komi):
    rule = f'from -{MAX_KOMI} to {MAX_KOMI}, with at most {KOMI_DECIMALS} decimals'
    raise ValueError(f'komi {komi}: must be {rule}')


# -------- first positions --------


def init(rules: Rules, default_komi: float, komi=None) -> State:
  """Returns the empty board with black to move.

  Args:
    rules: the options.
    default_komi: the komi if the next is None.
    komi: may be traced. Under `shard_map` the whole state then varies over devices as it does.
  """
  komi = jnp.asarray(default_komi if komi is None else komi, jnp.float32)
  zeros = functools.partial(jnp.zeros_like, komi)
  return State(
    chains=zeros(jnp.int16, shape=rules.points),
    record=zeros(jnp.uint16, shape=rules.packing.max_moves),
    record_high=zeros(jnp.uint32, shape=rules.packing.num_words),
    num_entries=zeros(jnp.uint16),
    num_setup=zeros(jnp.uint16),
    num_setup_black=zeros(jnp.uint16),
    first_player=zeros(jnp.uint8),
    passes=zeros(jnp.uint8),
    komi=komi,
  )


def from_position(rules: Rules, board, to_play, komi) -> State:
  """Returns a game that begins from stones set up; `Go.from_position` without its checks."""
  stones = jnp.asarray(board).reshape(-1)
  order = jnp.argsort(jnp.select([stones > 0, stones < 0], [0, 1], 2), stable=True)
  max_moves = rules.max_moves
  point = jnp.pad(order, (0, max(0, max_moves - rules.points)))[:max_moves]
  num_setup, num_black = jnp.sum(stones != 0), jnp.sum(stones > 0)
  record, record_high = rules.packing.pack(
    jnp.where(jnp.arange(max_moves) < num_setup, point, 0), jnp.zeros_like(point)
  )
  return State(
    chains=chains_lib.label(stones, rules.size).astype(jnp.int16),
    record=record,
    record_high=record_high,
    num_entries=num_setup.astype(jnp.uint16),
    num_setup=num_setup.astype(jnp.uint16),
    num_setup_black=num_black.astype(jnp.uint16),
    first_player=jnp.asarray(to_play, jnp.uint8),
    passes=jnp.zeros_like(num_setup, jnp.uint8),
    komi=jnp.asarray(komi, jnp.float32),
  )


def check_position(rules: Rules, board: np.ndarray) -> None:
  """Checks a board of stones to be set up, in NumPy.

  Args:
    rules: the options.
    board: `[N, N]`, positive black, negative white, 0 empty.

  Raises:
    ValueError: if its shape is wrong, it fills the record, or a chain has no liberty.
  """
  if board.shape != (rules.size, rules.size):
    raise ValueError(f'a board of shape {board.shape}: must be {rules.size} x {rules.size}')
  if np.count_nonzero(board) >= rules.max_moves:
    raise ValueError(
      f'{np.count_nonzero(board)} stones set up: must be fewer than max_moves, {rules.max_moves}'
    )
  free = board == 0  # and then, round by round, stones next to a free one of their chain
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


# -------- what a state shows --------


def _ownership(rules: Rules, state: State) -> Array:
  black, white = chains_lib.areas(chains_of(state), rules.size)
  owner = black.astype(jnp.int8) - white.astype(jnp.int8)
  return owner.reshape(rules.size, rules.size)


def _score(rules: Rules, state: State) -> Array:
  return _ownership(rules, state).sum(dtype=jnp.int32).astype(jnp.float32) - state.komi


def value(rules: Rules, state: State) -> Array:
  """Returns float32 `[]`: 1, -1 or 0 as the player to move is ahead, behind or even in score."""
  return jnp.sign(_score(rules, state)) * (1 - 2 * to_play(state))


def aux_targets(rules: Rules, state: State) -> Mapping[str, Array]:
  """Returns who owns each point, int8 `[N, N]`, and the score in points, float32 `[]`."""
  return {'ownership': _ownership(rules, state), 'score': _score(rules, state)}


def _own_eyes(rules: Rules, state: State) -> Array:
  player = (1 - 2 * to_play(state)).astype(state.chains.dtype)
  return chains_lib.eyes(state.chains * player, rules.size)


def rollout_legal(rules: Rules, state: State) -> Array:
  """Returns bool `[N^2 + 1]`: legal points that are no eye of one's own; a pass if there is none.

  Random games by players who fill their own eyes would not end before `max_moves`.
  """
  points = moves.legal(rules, state)[:-1] & ~_own_eyes(rules, state)
  return jnp.append(points, ~points.any())


def render(rules: Rules, state: State) -> str:
  """Returns the board of a state on the host as lines of text, the last move in parentheses."""
  stones = np.sign(np.asarray(state.chains)).reshape(rules.size, rules.size)
  return notation.render(stones, last_move(rules, state))


def last_move(rules: Rules, state: State) -> int | None:
  """Returns the action that led to a state on the host, None for a first position."""
  count = int(state.num_entries)
  if count <= int(state.num_setup):
    return None
  return int(np.asarray(state.record)[count - 1]) & (2**rules.packing.point_bits - 1)
