"""Deep Q-learning of the cart-pole: a minute on a laptop.

python launch.py train --config=dqn_cartpole --workdir=runs/dqn_cartpole

Paper: Mnih et al., Human-level control through deep reinforcement learning, 2015, whose method this
is; it has no cart-pole. An episode ends after 500 steps, each of which is worth 1, so the number is
500 steps. Ours: not trained yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='dqn',
        environment='cartpole',
        num_envs=16,
        frames_per_update=4,
        updates_per_step=16,
        exploration=dict(final=0.05, frames=10_000),
        replay=dict(capacity=32_768, min_size=1_024),
        target=dict(every=128, double=True),
        evaluation=dict(episodes=20, epsilon=0.0, max_steps=500),
      ),
      model=dict(name='dqn_mlp'),
      data=dict(name='selfplay', batch_size=64),
      optimizer=dict(name='adam', learning_rate=5e-4),
      train=dict(steps=1_000, log_every=50, eval_every=200, best='eval/return', best_mode='max'),
      paper=dict(metric='eval/return', value=500.0, note='the most that an episode can have'),
    )
  )
