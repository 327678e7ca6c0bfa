"""AlphaGo's value network, from games of its SL and RL policies, one position of each.

python launch.py train --config=alphago_value --config.task.sl_policy=runs/alphago_policy \
  --config.task.rl_policy=runs/alphago_reinforce --workdir=runs/alphago_value

Paper: Silver et al., Mastering the game of Go with deep neural networks and tree search, 2016: 30
million games, 50 million batches of 32 in a week of 50 GPUs; a mean squared error of 0.226 in
training and 0.234 in the test. Here games are played as it trains, 128 every 10 batches of 128.
Ours: not trained on 19x19 yet; on 7x7, on a CPU, 67 % of winners (docs/selfplay.md has how).

With these keys its search has all of AlphaGo's networks (they may be given after training):
  --config.task.engine.policy=runs/alphago_policy \
  --config.task.engine.rollout_policy=runs/alphago_rollout
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='go_value_selfplay',
        size=19,
        games=dict(
          per_round=128, round_every=10, min_games=12_800, window=128_000, test_games=12_800
        ),
        engine=dict(mixing=0.5),
      ),
      model=dict(name='alphago_value', layers=13, filters=192, dtype='bfloat16'),
      data=dict(name='selfplay', batch_size=128),
      optimizer=dict(
        name='adam', learning_rate=3e-4, schedule='cosine', warmup_steps=500, clip_norm=1.0
      ),
      train=dict(
        steps=200_000,
        log_every=100,
        eval_every=2_500,
        checkpoint_every=1_000,
        best='test/loss',
      ),
      paper=dict(title='Silver et al. 2016', metric='test/loss', value=0.234),
    )
  )
