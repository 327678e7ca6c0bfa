"""AlphaGo's 48 planes against a slow program that plays every move and reads every ladder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts import go
from mcts.alphago import features, ladders

NAMES = [name for name, count in features.PLANES for _ in range(count)]


def plane(planes, name):
  """`[N, N]`, or `[N, N, 8]` of a number; of the planes of one board."""
  chosen = np.asarray(planes)[..., :48][..., [x == name for x in NAMES]]
  return chosen[..., 0] if chosen.shape[-1] == 1 else chosen


# -------- the slow program: a board is a dict from points to colours --------


def around(point, size):
  row, column = point
  near = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
  return [p for p in near if 0 <= p[0] < size and 0 <= p[1] < size]


def chain(board, point, size):
  """The stones of a chain and its liberties."""
  stones, liberties, todo = {point}, set(), [point]
  while todo:
    for near in around(todo.pop(), size):
      if near not in board:
        liberties.add(near)
      elif board[near] == board[point] and near not in stones:
        stones.add(near)
        todo.append(near)
  return stones, liberties


def play(board, point, colour, size, ko=None):
  """(board, captured stones, new ko), or None for a move that is illegal."""
  if point in board or point == ko:
    return None
  board = {**board, point: colour}
  captured = set()
  for near in around(point, size):
    if board.get(near) == -colour:
      stones, liberties = chain(board, near, size)
      captured |= set() if liberties else stones
  for stone in captured:
    del board[stone]
  stones, liberties = chain(board, point, size)
  if not liberties:
    return None
  single = len(captured) == len(stones) == len(liberties) == 1
  return board, captured, next(iter(captured)) if single else None


def caught(board, prey, size, attackers, ko=None):
  """Whether the chain with the stone `prey` is caught, `attackers` (True: the attacker) to move."""
  colour = board[prey]
  stones, liberties = chain(board, prey, size)
  if attackers:
    if len(liberties) != 2:
      return len(liberties) < 2
    after = [play(board, p, -colour, size, ko) for p in liberties]
    return any(x and caught(x[0], prey, size, False, x[2]) for x in after)
  moves = set(liberties)
  for stone in stones:
    for near in around(stone, size):
      if board.get(near) == -colour and len(chain(board, near, size)[1]) == 1:
        moves |= chain(board, near, size)[1]
  after = [play(board, p, colour, size, ko) for p in moves]
  return all(x is None or caught(x[0], prey, size, True, x[2]) for x in after)


def ladder(board, point, colour, size):
  """(catches, escapes) of a move that is legal."""
  weak = {}  # one stone of each chain that matters -> whether it is the opponent's
  for stone, owner in board.items():
    stones, liberties = chain(board, stone, size)
    if owner == -colour and len(liberties) == 2 and point in liberties:
      weak[min(stones)] = True
    if owner == colour and len(liberties) == 1:
      weak[min(stones)] = False
  after, captured, ko = play(board, point, colour, size)
  catches = any(w and caught(after, s, size, False, ko) for s, w in weak.items())
  near = {n for stone in captured for n in around(stone, size)} | set(around(point, size))
  escapes = False
  for stone, theirs in weak.items():
    if not theirs and near & chain(board, stone, size)[0]:
      escapes |= not caught(after, stone, size, True, ko)
  return catches, escapes


def slow_planes(stones, legal, colour):
  """What `features.planes` gives, but for the turns since; `legal` bool `[N, N]`."""
  size = len(stones)
  board = {(int(r), int(c)): int(stones[r, c]) for r, c in np.argwhere(stones)}
  found = {name: np.zeros((size, size), int) for name, _ in features.PLANES}
  for point in board:
    found['liberties'][point] = len(chain(board, point, size)[1])
  for point in map(tuple, np.argwhere(legal).tolist()):
    after, captured, _ = play(board, point, colour, size)
    own, liberties = chain(after, point, size)
    found['capture size'][point] = len(captured)
    found['liberties after move'][point] = len(liberties)
    found['self-atari size'][point] = len(own) if len(liberties) == 1 else 0
    found['ladder capture'][point], found['ladder escape'][point] = ladder(
      board, point, colour, size
    )
    found['sensibleness'][point] = not eye(board, point, colour, size)
  return found


def eye(board, point, colour, size):
  row, column = point
  corners = [(row + a, column + b) for a in (-1, 1) for b in (-1, 1)]
  bad = sum(board.get(p) == -colour for p in corners)
  near = around(point, size)
  return all(board.get(p) == colour for p in near) and bad + (len(near) < 4) < 2


def assert_agree(planes, stones, legal, colour):
  for name, wanted in slow_planes(stones, legal, colour).items():
    if name in ('stone colour', 'ones', 'zeros', 'turns since'):
      continue
    got = plane(planes, name)
    if got.ndim == 3:
      got, wanted = (got * np.arange(1, 9)).sum(-1), np.minimum(wanted, 8)
    places = np.argwhere(got != wanted)
    assert not len(places), f'{name} at {places.tolist()} on\n{stones}\n{colour} to move'


# -------- positions --------


@functools.cache
def game(size):
  return go.Go(size)


@functools.cache
def program(size):
  return jax.jit(lambda states: features.planes(game(size), states, colour=True))


def read(picture):
  rows = [line.split() for line in picture.strip().splitlines()]
  return np.array([[{'X': 1, 'O': -1}.get(x, 0) for x in row] for row in rows], np.int8)


@functools.cache
def picture_program(size):
  def planes(board, to_play):
    state = game(size).from_position(board, to_play)
    return program(size)(jax.tree.map(lambda x: x[None], state))[0]

  return jax.jit(planes)


def planes_of(picture, to_play=0):
  board = read(picture)
  return np.asarray(picture_program(len(board))(board, to_play))


CHASE = """
. . . . . . . . .
. . X . . . . . .
. X O . . . . . .
. . X . . . . . .
. . . . . . . . .
. . . . . . . . .
. . . . . . . . .
. . . . . . . . .
. . . . . . . . .
"""


def with_stone(picture, row, column, stone):
  lines = [line.split() for line in picture.strip().splitlines()]
  lines[row][column] = stone
  return '\n'.join(' '.join(line) for line in lines)


@pytest.mark.long
def test_escape_by_running():
  # One liberty, and three after the extension: saved at once.
  planes = planes_of(CHASE, to_play=1)
  assert np.argwhere(plane(planes, 'ladder escape')).tolist() == [[2, 3]]


STAIRS = """
. . . . . . . . . . . . .
. . X X . . . . . . . . .
. X O . . . . . . . . . .
. . X . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
. . . . . . . . . . . . .
"""


@pytest.mark.long
@pytest.mark.parametrize(
  ('breaker', 'escapes'),
  [(None, False), ((9, 9), True), ((6, 6), True), ((9, 3), False), ((7, 8), True), ((3, 9), False)],
)
def test_a_ladder_runs_across_the_board_unless_a_stone_is_in_its_way(breaker, escapes):
  picture = STAIRS if breaker is None else with_stone(STAIRS, *breaker, 'O')
  planes = planes_of(picture, to_play=1)
  assert plane(planes, 'ladder escape')[2, 3] == escapes
  board = {(int(r), int(c)): int(read(picture)[r, c]) for r, c in np.argwhere(read(picture))}
  assert ladder(board, (2, 3), -1, 13)[1] == escapes


@pytest.mark.parametrize('breaker', [None, (9, 9), (3, 9)])
def test_the_attacker_sees_the_same_a_move_earlier(breaker):
  picture = with_stone(STAIRS, 3, 2, '.')  # two liberties: D11 and C10
  picture = picture if breaker is None else with_stone(picture, *breaker, 'O')
  planes = planes_of(picture, to_play=0)
  board = {(int(r), int(c)): int(read(picture)[r, c]) for r, c in np.argwhere(read(picture))}
  for point in ((2, 3), (3, 2)):
    assert plane(planes, 'ladder capture')[point] == ladder(board, point, 1, 13)[0]


@pytest.mark.long
def test_captured_ladder_stone_saves_the_prey():
  picture = """
    . . . . . . .
    . . X X O . .
    . X O O X O .
    . . X . . . .
    . . . . . . .
    . . . . . . .
    . . . . . . .
  """
  planes = planes_of(picture, to_play=1)
  assert_agree(planes, read(picture), slow_legal(read(picture), -1), -1)
  assert plane(planes, 'ladder escape')[3, 4]
  assert plane(planes, 'capture size')[3, 4, 0]  # one stone


def slow_legal(stones, colour):
  board = {(int(r), int(c)): int(stones[r, c]) for r, c in np.argwhere(stones)}
  size = len(stones)
  every = [(r, c) for r in range(size) for c in range(size)]
  return np.array([bool(play(board, p, colour, size)) for p in every]).reshape(size, size)


@functools.cache
def random_positions(size, batch, moves):
  """States of random games after each of `moves` numbers of turns, passes left out."""
  rules = game(size)

  def turn(states, key):
    legal = jax.vmap(rules.legal)(states)
    legal = legal.at[:, -1].set(~legal[:, :-1].any(-1))
    keys = jax.random.split(key, batch)
    logits = jnp.where(legal, 0.0, -jnp.inf)
    return jax.vmap(rules.step)(states, jax.vmap(jax.random.categorical)(keys, logits)), None

  run = jax.jit(lambda states, keys: jax.lax.scan(turn, states, keys)[0])
  found = [jax.tree.map(lambda x: jnp.repeat(x[None], batch, 0), rules.init())]
  for seed, count in enumerate(moves):
    found.append(run(found[-1], jax.random.split(jax.random.key(seed), count)))
  return found[1:]


@pytest.mark.long
@pytest.mark.parametrize(('size', 'moves'), [(5, (4, 6)), (9, (20, 20, 20)), (19, (150,))])
def test_all_planes_agree_with_the_slow_program(size, moves):
  for states in random_positions(size, 16 if size < 19 else 4, moves):
    planes = np.asarray(program(size)(states))
    boards = np.asarray(jax.jit(jax.vmap(game(size).board))(states))
    legal = np.asarray(jax.jit(jax.vmap(game(size).legal))(states))[:, :-1].reshape(boards.shape)
    player = 1 - 2 * np.asarray(jax.vmap(game(size).to_play)(states))
    for one in zip(planes, boards, legal, player.tolist(), strict=True):
      assert_agree(*one)


def test_colours_ones_zeros_and_the_player():
  planes = planes_of(STAIRS, to_play=1)
  board = read(STAIRS)
  colours = plane(planes[..., :48], 'stone colour')
  assert (colours == np.stack([board < 0, board > 0, board == 0], -1)).all()
  assert plane(planes[..., :48], 'ones').all() and not plane(planes[..., :48], 'zeros').any()
  assert planes.shape == (13, 13, 49) and not planes[..., 48].any()
  assert planes_of(STAIRS)[..., 48].all()


def test_turns_since():
  rules = game(5)
  moves = jnp.int32([6, 8, 25, 12])  # the third is a pass
  ages = jax.jit(lambda: features.turns_since(rules, rules.replay(rules.init(), moves)[0]))()
  ages = np.asarray(ages).reshape(5, 5)
  assert [int(ages.reshape(-1)[a]) for a in (6, 8, 12)] == [4, 3, 1]
  assert int((ages > 0).sum()) == 3
  old = jax.jit(lambda board: features.turns_since(rules, rules.from_position(board)))
  assert (np.diag(old(np.eye(5, dtype=np.int8)).reshape(5, 5)) > 8).all()


@pytest.mark.long
def test_a_board_has_the_same_planes_alone_as_in_company():
  (states,) = random_positions(9, 16, (50,))
  together = np.asarray(program(9)(states))
  for i in (0, 7):
    alone = program(9)(jax.tree.map(lambda x, i=i: x[i : i + 1], states))
    assert (np.asarray(alone)[0] == together[i]).all()


@pytest.mark.long
def test_lanes_fewer_than_questions_change_nothing(monkeypatch):
  (states,) = random_positions(9, 16, (60,))
  together = np.asarray(program(9)(states))
  monkeypatch.setattr(ladders, 'CPU_LANES', 3)
  few = jax.jit(lambda states: features.planes(game(9), states, colour=True))
  assert (np.asarray(few(states)) == together).all()


@pytest.mark.long
def test_under_shard_map():
  (states,) = random_positions(9, 16, (60,))
  mesh = jax.make_mesh((2,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec('data')
  split = jax.shard_map(
    lambda s: features.planes(game(9), s, colour=True), mesh=mesh, in_specs=spec, out_specs=spec
  )
  assert (np.asarray(jax.jit(split)(states)) == np.asarray(program(9)(states))).all()
