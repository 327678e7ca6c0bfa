"""Deep Q-learning of a MinAtar game, three seeds at once: 5 million frames of each.

python launch.py train --config=dqn_minatar --workdir=runs/dqn_breakout

For another game, asterix, freeway, seaquest or space_invaders: --config.task.environment=asterix
--config.paper.value=17, the paper's number of that game.

Paper: Young and Tian, MinAtar, 2019 (arXiv 1903.03176): returns while learning, with epsilon 0.1,
after 5 million frames, mean of 30 seeds, read off their figure: Breakout 10 points, Asterix 17,
Freeway 50, Seaquest 20, Space Invaders 44. They update after each frame and by RMSProp, at four
times the cost: --config.task.frames_per_update=1 --config.optimizer=rmsprop
--config.optimizer.learning_rate=2.5e-4 --config.train.steps=312500 --config.task.target.every=1008
Ours: not trained yet; one seed of Breakout stands at 4.6 points after 205,000 frames.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='dqn',
        environment='breakout',
        seeds=3,
        num_envs=16,
        frames_per_update=4,
        updates_per_step=16,
        exploration=dict(final=0.1, frames=100_000),
        replay=dict(capacity=99_968, min_size=5_000),
        target=dict(every=256),
        evaluation=dict(episodes=30, epsilon=0.1),
      ),
      model=dict(name='dqn_minatar'),
      data=dict(name='selfplay', batch_size=32),
      optimizer=dict(name='adam', learning_rate=2.5e-4, eps=1e-8),
      train=dict(
        steps=78_125,
        log_every=250,
        eval_every=7_500,
        best='eval/return',
        best_mode='max',
      ),
      paper=dict(
        title='Young and Tian 2019',
        metric='train/play_return',
        value=10.0,
        note='means of 30 seeds, read off a figure',
      ),
    )
  )
