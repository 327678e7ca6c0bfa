"""Environments on the host: rows beside those of the device's, and Atari's preprocessing."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.environments import ENVIRONMENTS
from data.environments.atari import HostEnvironment
from tests.train.tasks.dqn.small_dqn import mesh_of, task_of
from train import mesh as mesh_lib
from train.errors import UserError
from train.tasks.dqn import host

pytestmark = pytest.mark.usefixtures('one_device')


class Lives:
  """Two environments of episodes of six steps, a life lost at the third; step n is worth n."""

  def __init__(self, count):
    self.single_action_space = types.SimpleNamespace(n=2)
    self.at = np.zeros(count, int)

  def reset(self, seed):
    return self._see(), {'lives': np.full(len(self.at), 2)}

  def _see(self):
    return np.broadcast_to((10 + self.at).astype(np.uint8)[:, None, None, None], (2, 1, 4, 4))

  def step(self, action):
    anew = self.at == 6
    self.at = np.where(anew, 0, self.at + 1)
    ended = self.at == 6
    lives = {'lives': 2 - (self.at >= 3)}
    return self._see(), np.where(anew, 0, self.at), ended, np.zeros(2, bool), lives


def lives(count, seed):
  assert count == 2
  return Lives(count)


SEEN = jax.ShapeDtypeStruct((4, 4, 1), np.dtype('uint8'))
ENVIRONMENT = HostEnvironment('lives', 2, SEEN, lives, scores=(1.0, 21.0))


def test_a_lost_life_is_terminal_and_the_game_goes_on():
  player = host.HostPlayer(ENVIRONMENT, 2, history=3, seed=0)
  rows, totals = [], []
  for _ in range(9):
    before = player.frames[0, :, 0, 0, 0].tolist()
    row, ended = player.step(np.zeros(2, int))
    rows.append({**{name: x[0] for name, x in row.items()}, 'frames': before})
    totals.append(player.total[0] if ended[0] else None)
  assert [row['terminal'] for row in rows] == [i in (2, 5) for i in range(9)]
  assert [row['valid'] for row in rows] == [i != 6 for i in range(9)]
  assert [row['first'] for row in rows] == [i in (0, 7) for i in range(9)]
  assert [row['reward'] for row in rows] == [1, 2, 3, 4, 5, 6, 0, 1, 2]
  assert totals == [None] * 5 + [21] + [None] * 3
  frames = [row['frames'] for row in rows]
  assert frames[:4] == [[0, 0, 10], [0, 10, 11], [10, 11, 12], [11, 12, 13]]
  assert frames[7:] == [[0, 0, 10], [0, 10, 11]]  # nothing of the episode before


def small():
  made = task_of(
    {'name': 'dqn_mlp', 'hidden': (4,)}, num_envs=2, replay={'capacity': 64, 'min_size': 16}
  )
  made.environment = ENVIRONMENT
  made.layout = type(made.layout)(SEEN, 32)
  made.clip = True
  return made


@pytest.mark.long
def test_batches_are_of_what_the_host_did_and_a_resumed_run_begins_new_episodes():
  made = small()
  source = made.source('train', mesh_of(1), 0)
  variables = mesh_lib.unbox(dict(made.init(jax.random.key(0))))
  carry = source.init(jax.random.key(0))
  for step in range(2):
    carry, batch = source.next(carry, step, variables)
  assert batch['inputs'].shape == (32, 1, 4, 4, 1)
  written = int(carry.actors['count'])
  assert written == 16
  assert np.asarray(carry.replay.reward)[0, :9].tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 1]
  last = bool(carry.replay.valid[0, written - 1])
  again = made.source('train', mesh_of(1), 0)  # as after a resume
  carry, _ = again.next(carry, 2, variables)
  assert last and not carry.replay.valid[0, written - 1]
  assert carry.replay.first[0, written]


def test_scores_are_normalised():
  made = small()
  variables = dict(made.init(jax.random.key(0)))
  made.evaluation = type(made.evaluation)(episodes=2, epsilon=0.05, max_steps=30)
  found = made.evals(mesh_of(1))['eval'](variables)
  assert (found['return'], found['length'], found['normalised']) == (21, 6, 1)


def test_a_host_has_one_device():
  with pytest.raises(UserError, match=r'^lives: runs on the host of one device, and there are 2'):
    small().source('train', mesh_of(2), 0)


def test_atari_is_natures():
  pytest.importorskip('ale_py')
  game = ENVIRONMENTS['atari'](game='breakout')
  assert (game.num_actions, game.observation.shape) == (4, (84, 84, 1))
  player = host.HostPlayer(game, 2, history=4, seed=0)
  assert player.frames.shape == (2, 4, 84, 84, 1)
  assert player.lives.tolist() == [5, 5]
  ends = 0
  for _ in range(150):
    row, _ = player.step(np.ones(2, int))  # FIRE, and no ball is caught
    ends += int(row['terminal'][0])
  assert ends >= 2 and player.lives[0] < 5  # lives, not episodes
  assert game.render(row['observation'][0]).shape == (168, 168, 3)
  assert jnp.isclose(game.scores[1], 31.8)


def test_atari_is_refused_in_a_line(monkeypatch):
  with pytest.raises(UserError, match=r"task.environment='atari\(game=brakeout\)': .*breakout\?"):
    pytest.importorskip('ale_py')
    task_of(environment='atari(game=brakeout)')
  monkeypatch.setitem(__import__('sys').modules, 'ale_py', None)
  with pytest.raises(UserError, match=r"needs ale-py; install it by pip install '\.\[atari\]'"):
    task_of(environment='atari')
