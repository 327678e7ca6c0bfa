"""The replay: what may be sampled from its rings, how often, and what a batch then holds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcts
from mcts import symmetry
from mcts.selfplay import replay as replay_lib
from mcts.selfplay.replay import Transition

ENVS, LENGTH = 3, 16
GAME = dataclasses.replace(mcts.build('tictactoe'), symmetries=symmetry.NONE)
WRITE = jax.jit(replay_lib.write)


def transition(numbers, players, over, outcomes, trainable=True, aux_known=True):
  """Positions that carry a number in the bits of their planes, in their policy and their value."""
  numbers = np.asarray(numbers)
  bits = (numbers[:, None] >> np.arange(18) & 1).astype(bool)
  return Transition(
    planes=jnp.asarray(bits.reshape(-1, 3, 3, 2)),
    legal=jnp.asarray(bits[:, :9]),
    policy=jax.nn.one_hot(numbers % 9, 9),
    value=jnp.asarray(numbers / 1000, jnp.float32),
    player=jnp.asarray(players),
    trainable=jnp.broadcast_to(trainable, len(numbers)),
    outcome=jnp.asarray(outcomes, jnp.float32),
    ended=jnp.asarray(over),
    aux_known=jnp.broadcast_to(aux_known, len(numbers)),
    aux={'end': jnp.asarray(numbers, jnp.int32)},
  )


def number_of(planes):
  return (np.asarray(planes).reshape(len(planes), -1) << np.arange(18)).sum(1)


def draw(replay, count, window=LENGTH, seed=0):
  sample = jax.jit(replay_lib.sample, static_argnums=(0, 3))
  return jax.device_get(sample(GAME, replay, jax.random.key(seed), count, jnp.int32(window)))


@pytest.fixture(scope='module')
def played():
  """Fifty plies of games of 1 to 9 moves, and what a list of Python's knows of each position."""
  rng, expected = np.random.default_rng(0), {}
  aux = {'end': jax.ShapeDtypeStruct((), jnp.int32)}
  replay = replay_lib.init(GAME, ENVS, LENGTH, aux)
  moves, left = np.zeros(ENVS, int), rng.integers(1, 10, ENVS)
  running = [[] for _ in range(ENVS)]
  for ply in range(50):
    numbers, players = ply * ENVS + np.arange(ENVS) + 1, moves % 2
    over, outcomes = left == 1, rng.integers(-1, 2, ENVS)
    trainable = bool(rng.random() < 0.8)
    replay = WRITE(replay, transition(numbers, players, over, outcomes, trainable))
    for env in range(ENVS):
      running[env].append((int(numbers[env]), int(players[env]), ply, trainable))
      if over[env]:
        for number, player, at, kept in running[env]:
          result = int(outcomes[env]) * (1 if player == 0 else -1)
          expected[number] = (player, at, kept, result, int(numbers[env]))
        running[env] = []
    moves = np.where(over, 0, moves + 1)
    left = np.where(over, rng.integers(1, 10, ENVS), left - 1)
  return replay, expected, running


def drawable(expected, plies=50, window=LENGTH):
  return {n for n, (_, at, kept, _, _) in expected.items() if kept and at >= plies - window}


def test_only_finished_games_are_drawn_and_each_position_as_often(played):
  replay, expected, running = played
  assert any(running)  # games are going on
  allowed = drawable(expected)
  numbers = number_of(draw(replay, 20_000)['planes'])
  assert set(numbers.tolist()) == allowed
  counts = np.unique(numbers, return_counts=True)[1]
  mean = 20_000 / len(allowed)
  chi_square = ((counts - mean) ** 2 / mean).sum()
  assert chi_square < len(allowed) + 5 * np.sqrt(2 * len(allowed))


def test_what_is_drawn_is_what_was_written(played):
  replay, expected, _ = played
  batch = draw(replay, 500)
  for i, number in enumerate(number_of(batch['planes']).tolist()):
    player, _, _, result, end = expected[number]
    assert batch['player'][i] == player
    assert batch['outcome'][i] == result, 'the view of the player who was to move'
    assert batch['aux']['end'][i] == end, 'the last position of its own game'
    assert batch['policy'][i].argmax() == number % 9
    np.testing.assert_array_equal(batch['legal'][i], batch['planes'][i].reshape(-1)[:9])
    assert batch['value'][i] == pytest.approx(number / 1000)
  assert batch['mask'].all()


def test_a_window_holds_the_latest_positions(played):
  replay, expected, _ = played
  for window in (5, 10):
    numbers = number_of(draw(replay, 2_000, window)['planes'])
    assert set(numbers.tolist()) == drawable(expected, window=window)


def test_a_games_end_is_not_overwritten_when_the_next_game_ends():
  """Two games of one environment, won by the first and by the second player.

  place     0  1  2  3
  player    0  1  0  0   the first game has three moves, the second one
  outcome   .  .  +  -
  """
  replay = replay_lib.init(GAME, 1, 8, {'end': jax.ShapeDtypeStruct((), jnp.int32)})
  for i, (player, over, outcome) in enumerate([(0, 0, 0), (1, 0, 0), (0, 1, 1), (0, 1, -1)]):
    replay = WRITE(replay, transition([i], [player], [bool(over)], [outcome]))
  assert replay.end[0, :4].tolist() == [2, 2, 2, 3]
  batch = draw(replay, 100)
  results = dict(zip(number_of(batch['planes']).tolist(), batch['outcome'].tolist(), strict=True))
  assert results == {0: 1, 1: -1, 2: 1, 3: -1}


def test_before_any_game_is_over_a_batch_weighs_nothing():
  replay = replay_lib.init(GAME, ENVS, LENGTH, {'end': jax.ShapeDtypeStruct((), jnp.int32)})
  assert not draw(replay, 8)['mask'].any()
  replay = WRITE(replay, transition([1, 2, 3], [0, 0, 0], [False] * 3, [0] * 3))
  assert not draw(replay, 8)['mask'].any()


def test_the_window_grows_as_published():
  """Wu 2019, appendix C: with 16 times as many as at first 1 + 0.4 (16^0.75 - 1) / 0.75 = 4.733."""

  def of(played, first, length=10**8, num_envs=1):
    return int(replay_lib.window_plies(length, num_envs, jnp.int32(played), first))

  assert of(1_000, 250_000) == of(250_000, 250_000) == 250_000
  assert of(4_000_000, 250_000) == pytest.approx(4.7333 * 250_000, rel=1e-4)
  assert (
    of(500_000, 250_000, num_envs=8) == of(4_000_000, 250_000) // 8 + 1
  )  # plies of each environment
  assert of(10**6, 100, 500) == 500
  assert of(3, 0, 500) == 500


# -------- symmetries --------


def stones(name):
  """Of planes, the cells of the board that are free, as the actions have them."""
  if name == 'connect_four':
    return lambda planes: ~planes.any(-1)[0]
  if name == 'go':
    return lambda planes: np.append(~planes[..., :2].any(-1).ravel(), True)
  return lambda planes: ~planes.any(-1).ravel()


GAMES = {
  'tictactoe': (mcts.build('tictactoe'), (0, 1, 5)),
  'connect_four': (mcts.build('connect_four', rows=2, columns=5), (0, 0, 1)),
  'go': (mcts.build('go', size=4, history=1), (0, 1, 6)),
}


@pytest.mark.long
@pytest.mark.parametrize('name', list(GAMES))
def test_planes_legal_moves_and_policy_turn_alike(name):
  """X O .    no symmetry maps the stones to themselves, and moves are legal where no stone is.
  . . X
  . . .
  """
  game, moves = GAMES[name]
  state = game.init()
  for move in moves:
    state = game.step(state, jnp.int32(move))
  legal = game.legal(state)
  replay = replay_lib.init(game, 1, 4)
  one = Transition(
    planes=game.observe(state)[None],
    legal=legal[None],
    policy=(legal / legal.sum())[None],
    value=jnp.zeros(1),
    player=jnp.ones(1, jnp.int32),
    trainable=jnp.ones(1, bool),
    outcome=jnp.zeros(1),
    ended=jnp.ones(1, bool),
    aux_known=jnp.ones(1, bool),
    aux={},
  )
  replay = replay_lib.write(replay, one)
  batch = replay_lib.sample(game, replay, jax.random.key(0), 100, jnp.int32(4))
  batch = jax.device_get(batch)
  free = stones(name)
  for planes, mask, policy in zip(*(batch[x] for x in ('planes', 'legal', 'policy')), strict=True):
    np.testing.assert_array_equal(mask, free(planes))
    np.testing.assert_array_equal(policy > 0, mask)
  looks = {planes.tobytes() for planes in batch['planes']}
  assert len(looks) == game.symmetries.count == (2 if name == 'connect_four' else 8)


def test_planes_that_are_not_bool_are_refused():
  game = dataclasses.replace(GAME, observe=lambda state: jnp.zeros((3, 3, 1)))
  with pytest.raises(ValueError, match='its planes are float32'):
    replay_lib.init(game, 1, 9)
