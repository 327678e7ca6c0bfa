"""AlphaGo's SL policy network: 13 layers of 192 filters on 48 planes.

python launch.py train --config=alphago_policy --config.data.dataset=FILE[,FILE] \
  --workdir=runs/alphago_policy

Paper: Silver et al., Mastering the game of Go with deep neural networks and tree search, 2016: of
KGS games of 6 to 9 dan 57.0 % of the test's moves with 256 filters (--config.model.filters=256) and
averages over symmetries (the verb eval has them as test/accuracy_8_symmetries); 55.4 % the network
of 192 filters that played. Asynchronous SGD by 50 GPUs, 340 million steps of 16 positions, the rate
of 0.003 halved every 80 million; here batches of 256 with a cosine.
Ours: not trained yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='go_policy'),
      model=dict(name='alphago_policy', layers=13, filters=192, dtype='bfloat16'),
      data=dict(name='go_games', batch_size=256, eval_batch_size=1024, eval_positions=102_400),
      optimizer=dict(
        name='adam', learning_rate=1e-3, schedule='cosine', warmup_steps=1000, clip_norm=1.0
      ),
      train=dict(
        steps=200_000,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=2_000,
        best='test/accuracy',
        best_mode='max',
      ),
      paper=dict(
        title='Silver et al. 2016',
        metric='test/accuracy',
        value=0.554,
        note="the paper's games are KGS's of 6 to 9 dan",
      ),
    )
  )
