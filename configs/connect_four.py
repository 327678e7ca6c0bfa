"""Connect Four from nothing but its rules, by Gumbel AlphaZero: hours on a laptop, less on a GPU.

python launch.py train --config=connect_four --workdir=runs/connect_four

Paper: Danihelka, Guez, Schrittwieser, Silver, Policy improvement by planning with Gumbel, 2022,
whose method this is; it has no Connect Four. With best play the first player wins (Allis 1988), so
the number is the first player's share of points in self-play, 100 % in the end.
Ours: not measured yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='selfplay',
        game='connect_four',
        slots=256,
        simulations=32,
        rule='gumbel(considered=7)',
        temperature_moves=10,
        window=500_000,
        window_start=50_000,
        minimum=20_000,
        anchors=('random', 'rollout(simulations=200)'),
        match_games=200,
        opening=3,
        past_every=1_000,
      ),
      model=dict(name='policy_value', blocks=5, channels=64),
      data=dict(name='selfplay', batch_size=512),
      optimizer=dict(name='adam', learning_rate=1e-3, schedule='cosine', weight_decay=1e-4),
      train=dict(
        steps=20_000, log_every=100, eval_every=1_000, best='rollout/share', best_mode='max'
      ),
      paper=dict(title='Allis 1988', metric='train/play_first_share', value=1.0),
    )
  )
