"""Connect Four from nothing but its rules, by Gumbel AlphaZero: an hour on two CPU cores.

python launch.py train --config=connect_four --workdir=runs/connect_four

Paper: Danihelka, Guez, Schrittwieser, Silver, Policy improvement by planning with Gumbel, 2022,
whose method this is; it has no Connect Four. The game is solved (Allis 1988), so the number is how
often the network alone, without search, plays a best move: 100 % in the end. Positions with their
best moves, as --config.task.solved=solved.txt, are made in a quarter of an hour by
  python -m mcts.connect_four_solver --positions=500 --output=solved.txt
Ours: 91.8 % of 500 positions, 93.0 % at step 3,000 (seed 0, 39 minutes).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='selfplay',
        game='connect_four',
        slots=256,
        simulations=16,
        rule='gumbel(considered=7)',
        temperature_moves=20,
        random_moves=24,
        value_mix=0.5,
        window=200_000,
        window_start=20_000,
        minimum=10_000,
        anchors=('random', 'rollout(simulations=100)'),
        match_games=100,
        match_simulations=32,
        opening=3,
        past_every=1_000,
        parts=True,
      ),
      model=dict(name='policy_value', blocks=4, channels=32),
      data=dict(name='selfplay', batch_size=512),
      optimizer=dict(name='adam', learning_rate=2e-3, schedule='cosine', weight_decay=1e-4),
      train=dict(
        steps=4_000,
        log_every=50,
        eval_every=1_000,
        checkpoint_every=250,
        best='rollout/share',
        best_mode='max',
      ),
      paper=dict(title='Allis 1988', metric='solved/optimal', value=1.0, note='by a solver'),
    )
  )
