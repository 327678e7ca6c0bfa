"""Go on 9x9 from nothing but its rules, by Gumbel AlphaZero, on one GPU.

python launch.py train --config=go_9x9 --workdir=runs/go_9x9

Paper: Danihelka, Guez, Schrittwieser, Silver, Policy improvement by planning with Gumbel, 2022,
figure 2, on 9x9 with few simulations; the ownership and score heads are those of Wu, Accelerating
self-play learning in Go, 2019. Neither gives a number to be had again; what is aimed at is 90 % of
games against GNU Go 3.8 at level 10 (launch.py match).
Ours: not measured yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='selfplay',
        game='go(size=9, komi=7.5)',
        num_envs=1_024,
        snapshot_every=2_000,
        selection='gumbel(max_num_considered_actions=16)',
        search=dict(num_simulations=32),
        exploration=dict(temperature_moves=12),
        replay=dict(window=2_000_000, initial_window=200_000, min_size=100_000),
        loss=dict(ownership_weight=0.5, score_weight=0.5),
        evaluation=dict(
          baselines=('random', 'rollout(num_simulations=200)'), num_games=200, timings=True
        ),
      ),
      model=dict(
        name='policy_value',
        blocks=6,
        channels=128,
        ownership=True,
        score=True,
        dtype='bfloat16',
      ),
      data=dict(name='selfplay', batch_size=1_024),
      optimizer=dict(
        name='sgd',
        learning_rate=2e-2,
        schedule='cosine',
        warmup_steps=1_000,
        momentum=0.9,
        weight_decay=1e-4,
      ),
      train=dict(
        steps=100_000, log_every=100, eval_every=2_000, best='rollout/share', best_mode='max'
      ),
      paper=dict(title='GNU Go 3.8', metric='rollout/share'),
    )
  )
