"""AlphaGo's RL policy: it plays against a pool of its own past, and learns from who wins.

python launch.py train --config=alphago_reinforce --config.task.sl_policy=runs/alphago_policy \
  --workdir=runs/alphago_reinforce

Paper: Silver et al., Mastering the game of Go with deep neural networks and tree search, 2016:
10,000 batches of 128 games in a day of 50 GPUs, an opponent for the pool each 500; then it wins
more than 80 % of its games against the SL policy that it began as. `model` must be that policy's.
A try on a CPU: --config.task.size=9 and a policy of 9x9 games, model.layers=4, model.filters=32.
Ours: not trained yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='go_reinforce', size=19, games=128, pool_size=20, pool_every=500, match_games=256
      ),
      model=dict(name='alphago_policy', layers=13, filters=192, dtype='bfloat16'),
      data=dict(name='selfplay', batch_size=1024),
      optimizer=dict(name='sgd', learning_rate=1e-3, momentum=0.0, clip_norm=1.0),
      train=dict(
        steps=10_000,
        log_every=10,
        eval_every=500,
        checkpoint_every=100,
        best='sl_policy/share',
        best_mode='max',
      ),
      paper=dict(
        title='Silver et al. 2016',
        metric='sl_policy/share',
        value=0.8,
        note='more than this, by the paper',
      ),
    )
  )
