"""Deep Q-learning of an Atari 2600 game by Nature's protocol: 200 million frames.

pip install '.[atari]'
python launch.py train --config=dqn_atari --workdir=runs/dqn_pong

For another game: --config.task.environment='atari(game=breakout)' --config.paper.value=401.2

Paper: Mnih et al., Human-level control through deep reinforcement learning, 2015: after 50 million
steps of 4 frames each, with epsilon 0.05 and up to 30 idle actions at the begin: Pong 18.9 points,
Breakout 401.2, Space Invaders 1976, Seaquest 5286, Beam Rider 6846, Enduro 301.8, Q*bert 10596.
Ours: not trained yet.

A step of training is 64 steps of the emulator and 16 updates. 10,000 steps of Pong with their 2,500
updates took 148 seconds of an AMD EPYC's processor time, of which the whole protocol would take 206
hours: it is for a GPU. The replay of a million frames takes 7 GiB, and as much in each checkpoint.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='dqn',
        environment='atari(game=pong)',
        num_envs=16,
        frames_per_update=4,
        updates_per_step=16,
        history=4,
        exploration=dict(final=0.1, frames=1_000_000),
        replay=dict(capacity=1_000_000, min_size=50_000),
        target=dict(every=10_000),
        evaluation=dict(episodes=30, epsilon=0.05, max_steps=27_000),
      ),
      model=dict(name='dqn_nature'),
      data=dict(name='selfplay', batch_size=32),
      optimizer=dict(name='rmsprop', learning_rate=2.5e-4),
      train=dict(
        steps=781_250,
        log_every=250,
        eval_every=15_625,
        keep=1,
        best='eval/return',
        best_mode='max',
      ),
      paper=dict(
        title='Mnih et al. 2015',
        metric='eval/return',
        value=18.9,
        note='mean of 30 episodes',
      ),
    )
  )
