"""AlphaGo's SL policy in small, 6 layers of 64 filters, on two CPU cores: an hour or two.

python launch.py train --config=alphago_policy_cpu --config.data.dataset=FILE[,FILE] \
  --workdir=runs/alphago_policy_cpu

Paper: Silver et al., Mastering the game of Go with deep neural networks and tree search, 2016; its
networks are larger and saw 28 million positions (alphago_policy): 57.0 % of expert moves.
Ours: 41.1 %, and 42.1 % averaged over symmetries, of 10,240 positions of other games, after a
million of 34,765 games of Tygem's 9 dan (one seed; docs/selfplay.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='go_policy'),
      model=dict(name='alphago_policy', layers=6, filters=64),
      data=dict(name='go_games', batch_size=64, eval_batch_size=256, eval_positions=10_240),
      optimizer=dict(
        name='adam', learning_rate=1e-3, schedule='cosine', warmup_steps=200, clip_norm=1.0
      ),
      train=dict(
        steps=16_000,
        log_every=50,
        eval_every=4000,
        checkpoint_every=500,
        best='test/accuracy',
        best_mode='max',
      ),
      paper=dict(metric='test/accuracy'),
    )
  )
