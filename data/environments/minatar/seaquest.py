"""MinAtar's Seaquest: a submarine saves divers, shoots fish and submarines, and needs air."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data.environments.environment import Environment, sticky
from data.environments.minatar import grid

OXYGEN = 200  # steps under water, when full
DIVERS = 6  # that the submarine holds
COOL_DOWN = 5  # steps between two of its shots
ENEMY_EVERY, ENEMY_MOVE, ENEMY_SHOT = 20, 5, 10  # steps between two enemies, their moves and shots
DIVER_EVERY, DIVER_MOVE = 30, 5
DEEPEST = 8  # row
# The most that are alive at once, as each leaves the grid after ten moves: an enemy then takes
# three steps a move and one comes each step, a diver six and one comes each thirty.
MOST_ENEMIES, MOST_DIVERS, MOST_SHOTS = 30, 2, 2


class Swimmers(NamedTuple):
  """What crosses the grid, `[N]` each; the newest first, so that order is age.

  there: bool. y, x: int32. right: bool, whether it goes right. timer: int32, steps to its move.
  """

  there: Array
  y: Array
  x: Array
  right: Array
  timer: Array


class SeaquestState(NamedTuple):
  """A position; int32 `[]` unless said.

  y, x: the submarine's cell; right: bool `[]`, where it looks.
  shots, divers: Swimmers.
  enemies: Swimmers, fish and submarines; armed: bool `[N]`, which are submarines; enemy_shot: int32
    `[N]`, steps to their next shot.
  bullets: bool `[2, 10, 10]`, the enemies' that go left, and right.
  surfaced: bool `[]`, whether the submarine is at the surface since it last came up.
  oxygen: steps that are left; aboard: divers.
  enemy_every, enemy_move: intervals, which shrink; ramps: how often they did.
  enemy_timer, diver_timer, shot_timer: steps until the next of each.
  """

  y: Array
  x: Array
  right: Array
  shots: Swimmers
  divers: Swimmers
  enemies: Swimmers
  armed: Array
  enemy_shot: Array
  bullets: Array
  surfaced: Array
  oxygen: Array
  aboard: Array
  enemy_every: Array
  enemy_move: Array
  ramps: Array
  enemy_timer: Array
  diver_timer: Array
  shot_timer: Array


def Seaquest(sticky_prob: float = 0.1) -> Environment:
  """Returns the environment: an enemy is worth 1, six divers at the surface the air that is left.

  It ends when the submarine is hit, is out of air, or comes up without a diver.

  Args:
    sticky_prob: the probability that an action is the one before (Young and Tian 2019: 0.1).
  """
  game = Environment('seaquest', grid.NUM_ACTIONS, init, step, observe)
  return sticky(game, sticky_prob)


def init(key: Array) -> SeaquestState:
  """Returns the submarine at the surface of an empty sea."""
  del key
  zero, no = jnp.int32(0), jnp.bool_(False)

  def none(n: int) -> Swimmers:
    flags, zeros = jnp.zeros(n, bool), jnp.zeros(n, jnp.int32)
    return Swimmers(flags, zeros, zeros, flags, zeros)

  return SeaquestState(
    y=zero,
    x=jnp.int32(5),
    right=no,
    shots=none(MOST_SHOTS),
    divers=none(MOST_DIVERS),
    enemies=none(MOST_ENEMIES),
    armed=jnp.zeros(MOST_ENEMIES, bool),
    enemy_shot=jnp.zeros(MOST_ENEMIES, jnp.int32),
    bullets=jnp.zeros((2, grid.SIDE, grid.SIDE), bool),
    surfaced=jnp.bool_(True),
    oxygen=jnp.int32(OXYGEN),
    aboard=zero,
    enemy_every=jnp.int32(ENEMY_EVERY),
    enemy_move=jnp.int32(ENEMY_MOVE),
    ramps=zero,
    enemy_timer=jnp.int32(ENEMY_EVERY),
    diver_timer=jnp.int32(DIVER_EVERY),
    shot_timer=zero,
  )


def step(state: SeaquestState, action: Array, key: Array) -> tuple[SeaquestState, Array, Array]:
  """Spawns, moves the submarine, then all else in turn, then counts the air."""
  state = _spawn(state, jax.random.uniform(key, (5,)))
  state = _steer(state, action)
  state, hits = _move_shots(state)
  state = _move_divers(state)
  state, kills, met = _move_enemies(state)
  state, hit = _move_bullets(state)
  state, saved, drowned = _breathe(state)
  reward = (hits + kills + saved).astype(jnp.float32)
  return state, reward, met | hit | drowned


def observe(state: SeaquestState) -> Array:
  """Returns ten planes.

  The submarine's front and back, its shots, the trail of enemies and divers (where each came
  from), bullets, fish, enemy submarines, the gauges of oxygen and divers, divers.
  """
  back = state.x - jnp.where(state.right, 1, -1)
  enemies, divers = state.enemies, state.divers
  gauge, bottom = grid.COLUMNS, grid.ROWS == grid.SIDE - 1
  full = state.oxygen * grid.SIDE // OXYGEN
  first = grid.SIDE - 1 - state.aboard
  return grid.planes(
    grid.cell(state.y, state.x),
    grid.cell(state.y, back),
    _cells(state.shots),
    _cells(enemies, behind=True) | _cells(divers, behind=True),
    state.bullets.any(0),
    _cells(enemies, ~state.armed),
    _cells(enemies, state.armed),
    bottom & (gauge < full),
    bottom & (gauge >= first) & (gauge < grid.SIDE - 1),
    _cells(divers),
  )


def _cells(swimmers: Swimmers, which: Array | bool = True, behind: bool = False) -> Array:
  x = swimmers.x - jnp.where(swimmers.right, 1, -1) if behind else swimmers.x
  return grid.cells(swimmers.y, x, swimmers.there & which)


# -------- coming --------


def _push(old: Array, new: Array, when: Array) -> Array:
  """Returns `[N]` with a new one in front, when it comes; the oldest, long gone, falls out."""
  return jnp.where(when, jnp.concatenate([jnp.asarray(new, old.dtype)[None], old[:-1]]), old)


def _enter(swimmers: Swimmers, when: Array, y: Array, x: Array, right: Array, timer: Array):
  new = (jnp.bool_(True), y, x, right, timer)
  return Swimmers(*(_push(a, b, when) for a, b in zip(swimmers, new, strict=True)))


def _spawn(state: SeaquestState, chance: Array) -> SeaquestState:
  """Lets an enemy and a diver in when it is time; chance: uniform in [0, 1), `[5]`."""
  right, armed, row = chance[0] < 0.5, chance[1] < 1 / 3, 1 + (chance[2] * 8).astype(jnp.int32)
  others = state.enemies
  # No two enemies of one row go against each other.
  against = (others.there & (others.y == row) & (others.right != right)).any()
  due = state.enemy_timer == 0
  when = due & ~against
  side = jnp.where(right, 0, grid.SIDE - 1)
  enemies = _enter(others, when, row, side, right, state.enemy_move)
  diver_due, diver_right = state.diver_timer == 0, chance[3] < 0.5
  diver_row = 1 + (chance[4] * 8).astype(jnp.int32)
  diver_side, pace = jnp.where(diver_right, 0, grid.SIDE - 1), jnp.int32(DIVER_MOVE)
  return state._replace(
    enemies=enemies,
    armed=_push(state.armed, armed, when),
    enemy_shot=_push(state.enemy_shot, jnp.int32(ENEMY_SHOT), when),
    enemy_timer=jnp.where(due, state.enemy_every, state.enemy_timer),
    divers=_enter(state.divers, diver_due, diver_row, diver_side, diver_right, pace),
    diver_timer=jnp.where(diver_due, DIVER_EVERY, state.diver_timer),
  )


# -------- moving --------


def _steer(state: SeaquestState, action: Array) -> SeaquestState:
  """Moves the submarine, or fires."""
  fires = (action == grid.FIRE) & (state.shot_timer == 0)
  sides = (action == grid.LEFT) | (action == grid.RIGHT)
  y = grid.move(state.y, action, grid.UP, grid.DOWN)
  return state._replace(
    shots=_enter(state.shots, fires, state.y, state.x, state.right, jnp.int32(0)),
    shot_timer=jnp.where(fires, COOL_DOWN, state.shot_timer),
    x=grid.move(state.x, action, grid.LEFT, grid.RIGHT),
    y=jnp.minimum(y, DEEPEST),
    right=jnp.where(sides, action == grid.RIGHT, state.right),
  )


def _advance(swimmers: Swimmers, moves: Array) -> Swimmers:
  """Returns them after the moves of some, those gone that left the grid."""
  x = swimmers.x + jnp.where(moves, jnp.where(swimmers.right, 1, -1), 0)
  return swimmers._replace(x=x, there=swimmers.there & grid.inside(x))


def _move_shots(state: SeaquestState) -> tuple[SeaquestState, Array]:
  """Moves the shots, each of which takes the oldest fish in its cell, or else submarine."""
  shots = _advance(state.shots, jnp.bool_(True))
  there, alive = state.enemies.there, []
  for i in range(MOST_SHOTS):
    same = (state.enemies.y == shots.y[i]) & (state.enemies.x == shots.x[i])
    near = there & same & shots.there[i]
    fish = near & ~state.armed
    struck = _oldest(jnp.where(fish.any(), fish, near))
    there = there & ~struck
    alive.append(shots.there[i] & ~near.any())
  hits = (state.enemies.there & ~there).sum()
  shots = shots._replace(there=jnp.stack(alive))
  return state._replace(shots=shots, enemies=state.enemies._replace(there=there)), hits


def _oldest(mask: Array) -> Array:
  """Returns the mask with its last alone; all false if it is."""
  index = np.arange(len(mask))
  return mask & (index == jnp.max(jnp.where(mask, index, -1)))


def _newest(mask: Array) -> Array:
  """Returns the mask with its first alone."""
  index = np.arange(len(mask))
  return mask & (index == jnp.min(jnp.where(mask, index, len(mask))))


def _at_submarine(state: SeaquestState, swimmers: Swimmers) -> Array:
  return swimmers.there & (swimmers.y == state.y) & (swimmers.x == state.x)


def _move_divers(state: SeaquestState) -> SeaquestState:
  """Moves the divers; those at the submarine come aboard, before their move or after it."""
  divers, aboard = state.divers, state.aboard
  there, x, timer = [], [], []
  for i in range(MOST_DIVERS):  # the newest first
    one = jax.tree.map(lambda a, i=i: a[i], divers)
    early = _at_submarine(state, one) & (aboard < DIVERS)
    moves = one.there & ~early & (one.timer == 0)
    moved = _advance(one, moves)
    late = moves & _at_submarine(state, moved) & (aboard < DIVERS)
    aboard = aboard + (early | late)
    there.append(moved.there & ~early & ~late)
    x.append(moved.x)
    timer.append(jnp.where(moves, DIVER_MOVE, jnp.where(early, one.timer, one.timer - 1)))
  divers = divers._replace(there=jnp.stack(there), x=jnp.stack(x), timer=jnp.stack(timer))
  return state._replace(divers=divers, aboard=aboard)


def _move_enemies(state: SeaquestState) -> tuple[SeaquestState, Array, Array]:
  """Moves the enemies, some into shots; returns also how many died, and whether one is met."""
  old = state.enemies
  moves = old.there & (old.timer == 0)
  new = _advance(old, moves)
  met = (_at_submarine(state, old) | _at_submarine(state, new)).any()
  # One that moves into the submarine meets no shot there.
  exposed = moves & new.there & ~_at_submarine(state, new)
  there, shots = new.there, []
  for i in range(MOST_SHOTS):
    shot = jax.tree.map(lambda a, i=i: a[i], state.shots)
    into = exposed & there & shot.there & (new.y == shot.y) & (new.x == shot.x)
    armed = into & state.armed  # submarines move first
    there = there & ~_newest(jnp.where(armed.any(), armed, into))
    shots.append(shot.there & ~into.any())
  kills = (new.there & ~there).sum()
  fires = old.there & state.armed & (state.enemy_shot == 0)
  at = jnp.stack([grid.cells(new.y, new.x, fires & (new.right == way)) for way in (False, True)])
  new = new._replace(there=there, timer=jnp.where(moves, state.enemy_move, old.timer - 1))
  state = state._replace(
    enemies=new,
    enemy_shot=jnp.where(fires, ENEMY_SHOT, state.enemy_shot - 1),
    bullets=state.bullets | at,
    shots=state.shots._replace(there=jnp.stack(shots)),
  )
  return state, kills, met


def _move_bullets(state: SeaquestState) -> tuple[SeaquestState, Array]:
  """Moves the enemies' bullets; returns also whether the submarine is hit, before or after."""
  here, edge = grid.cell(state.y, state.x), jnp.zeros((grid.SIDE, 1), bool)
  left, right = state.bullets
  left = jnp.concatenate([left[:, 1:], edge], 1)
  right = jnp.concatenate([edge, right[:, :-1]], 1)
  bullets = jnp.stack([left, right])
  return state._replace(bullets=bullets), ((state.bullets | bullets).any(0) & here).any()


# -------- air --------


def _breathe(state: SeaquestState) -> tuple[SeaquestState, Array, Array]:
  """Counts the air and the timers; returns also the reward at the surface, and who drowns."""
  under = state.y > 0
  oxygen = state.oxygen - under
  empty = oxygen < 0
  arrives = ~under & ~state.surfaced
  drowned = empty | (arrives & (state.aboard == 0))
  surfaces = arrives & (state.aboard > 0)
  full = state.aboard == DIVERS
  reward = jnp.where(surfaces & full, oxygen * 10 // OXYGEN, 0)
  aboard = jnp.where(surfaces, jnp.where(full, 0, state.aboard) - 1, state.aboard)
  goes_on = (state.enemy_every > 1) | (state.enemy_move > 2)
  harder = surfaces & goes_on
  faster = harder & (state.enemy_move > 2) & (state.ramps % 2 == 1)
  new = state._replace(
    oxygen=jnp.where(surfaces, OXYGEN, oxygen),
    surfaced=~under & (state.surfaced | surfaces),
    aboard=aboard,
    enemy_every=state.enemy_every - (harder & (state.enemy_every > 1)),
    enemy_move=state.enemy_move - faster,
    ramps=state.ramps + harder,
    enemy_timer=jnp.maximum(state.enemy_timer - 1, 0),
    diver_timer=jnp.maximum(state.diver_timer - 1, 0),
    shot_timer=jnp.maximum(state.shot_timer - 1, 0),
  )
  return new, reward, drowned
