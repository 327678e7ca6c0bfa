"""AlphaGo's value network from recorded human games; `alphago_value` has games of its policies.

python launch.py train --config=alphago_value_records --config.data.dataset=FILE[,FILE] \
  --workdir=runs/alphago_value

Paper: Silver et al., Mastering the game of Go with deep neural networks and tree search, 2016: from
human games, whose positions are many to a game, a mean squared error of 0.19 in training and 0.37
in the test, for the games were learnt by heart. Here an epoch has one position of each game.
Ours: not trained yet; 6 layers of 48 filters had learnt nothing after 1,000 steps on a CPU.

With these keys its search has all of AlphaGo's networks (they may be given after training):
  --config.task.engine.policy=runs/alphago_policy \
  --config.task.engine.rollout_policy=runs/alphago_rollout
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='go_value', engine=dict(mixing=0.5)),
      model=dict(name='alphago_value', layers=13, filters=192, dtype='bfloat16'),
      data=dict(
        name='go_games',
        batch_size=128,
        eval_batch_size=1024,
        positions='one',
        with_result=True,
      ),
      optimizer=dict(
        name='adam', learning_rate=3e-4, schedule='cosine', warmup_steps=500, clip_norm=1.0
      ),
      train=dict(
        steps=50_000,
        log_every=100,
        eval_every=2_500,
        checkpoint_every=1_000,
        best='test/loss',
      ),
      paper=dict(
        title='Silver et al. 2016',
        metric='test/loss',
        value=0.37,
        note='of human games, many positions of each',
      ),
    )
  )
