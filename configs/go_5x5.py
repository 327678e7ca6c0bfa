"""Go on 5x5 from nothing but its rules: at most an hour on a laptop.

python launch.py train --config=go_5x5 --workdir=runs/go_5x5

Paper: Silver et al., Mastering the game of Go without human knowledge, 2017, on a board of which it
has no numbers; the search is that of Danihelka et al. 2022, good with few simulations. With best
play black owns the whole board, all 25 points (van der Werf, van den Herik, Uiterwijk 2003, Solving
Go on small boards), so the number is black's share of games: 100 %.
Ours: not measured yet.

Komi asks whether white lives, which takes some six points: of 14.5 black wins 16 % of games of
random moves. Of 24.5 a dead stone that nobody takes off would win for white (black has 3 %), and of
0.5 all is won long before black knows how to kill.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='selfplay',
        game='go(size=5, komi=14.5)',
        slots=128,
        simulations=24,
        rule='gumbel(considered=12)',
        temperature_moves=6,
        window=150_000,
        window_start=30_000,
        minimum=10_000,
        anchors=('random', 'rollout(simulations=100)'),
        match_games=100,
        past_every=500,
      ),
      model=dict(name='policy_value', blocks=3, channels=32, value_width=64),
      data=dict(name='selfplay', batch_size=256),
      optimizer=dict(name='adam', learning_rate=2e-3, schedule='cosine', weight_decay=1e-4),
      train=dict(steps=6_000, log_every=50, eval_every=500, best='rollout/share', best_mode='max'),
      paper=dict(metric='rollout/share'),
    )
  )
