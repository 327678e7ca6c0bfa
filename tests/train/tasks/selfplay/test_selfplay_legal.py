"""Games of self-play, as the replay keeps them, played again by OpenSpiel."""

import functools
import itertools

import jax
import numpy as np
import pytest

from tests.train.tasks.selfplay.small_selfplay import begin, task_of

SIZE, ENVS = 5, 16
PASS = SIZE * SIZE
ROWS = np.arange(PASS).reshape(SIZE, SIZE)[::-1].ravel()  # OpenSpiel's first row is the lowest


@functools.cache
def replayed(devices):
  """Of Gumbel's search with a network that knows nothing, 96 moves in each environment."""
  task = task_of(
    game=f'go(size={SIZE}, komi=7.5)',
    selection='gumbel(max_num_considered_actions=4)',
    replay={'window': 128 * ENVS, 'min_size': 0},
    num_envs=ENVS,
    moves_per_step=48,
    exploration={'temperature_moves': 50},
  )
  source, carry, variables = begin(task, devices)
  for step in range(2):
    carry, _ = source.next(carry, step, variables)
  return jax.device_get(carry.replay)


def games(replay):
  """The boards `[T, N, N]` (1 black, -1 white) before each move of each finished game, and black's
  result."""
  count = int(replay.count[0])
  planes = np.unpackbits(replay.planes[:, :count], axis=-1)[..., : PASS * 17]
  planes = planes.reshape(ENVS, count, SIZE, SIZE, 17).astype(int)
  sign = 1 - 2 * replay.player[:, :count, None, None].astype(int)
  boards = (planes[..., 0] - planes[..., 1]) * sign
  for env, ends in enumerate(replay.end[:, :count]):
    for end in sorted(set(ends[ends >= 0].tolist())):
      game = np.flatnonzero(ends == end)
      assert (game == np.arange(game[0], end + 1)).all()
      yield boards[env, game], int(replay.outcome[env, end])


def move_between(board, after, colour):
  new = np.flatnonzero(((after == colour) & (board != colour)).ravel())
  assert len(new) <= 1
  return int(new[0]) if len(new) else PASS


@pytest.mark.long
@pytest.mark.parametrize('devices', [1, 8])
def test_every_move_is_legal_and_every_game_is_won_by_whom_openspiel_says(devices):
  pyspiel = pytest.importorskip('pyspiel')
  lengths, judged = [], 0
  for boards, result in games(replayed(devices)):
    state = pyspiel.load_game(f'go(board_size={SIZE},komi=7.5)').new_initial_state()
    moves = [
      move_between(a, b, 1 - 2 * (i % 2)) for i, (a, b) in enumerate(itertools.pairwise(boards))
    ]
    for move, after in zip(moves, boards[1:], strict=True):
      action = move if move == PASS else int(ROWS[move])
      assert action in state.legal_actions()
      state.apply_action(action)
      text = [line.split()[1] for line in str(state).splitlines() if line[:2].strip().isdigit()]
      assert [[{'X': 1, 'O': -1, '+': 0}[x] for x in row] for row in text] == after.tolist()
    if len(boards) < 2 * PASS and moves[-1] == PASS:  # so the last move was a pass, too
      state.apply_action(PASS)
      assert state.is_terminal() and state.returns()[0] == result
      judged += 1
    lengths.append(len(boards))
  assert len(lengths) > ENVS and judged > 4 and len(set(lengths)) > 4


@pytest.mark.long
def test_eight_devices_play_the_games_of_one():
  one, eight = (replayed(devices) for devices in (1, 8))
  for name in ('planes', 'end', 'outcome', 'player'):
    np.testing.assert_array_equal(getattr(one, name), getattr(eight, name))
