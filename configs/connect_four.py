r"""Connect Four from nothing but its rules, by Gumbel's search: two hours on two CPU cores.

XLA_FLAGS=--xla_force_host_platform_device_count=2 \
  python launch.py train --config=connect_four --workdir=runs/connect_four

Paper: Danihelka, Guez, Schrittwieser, Silver, Policy improvement by planning with Gumbel, 2022,
whose method this is; it has no Connect Four. The game is solved (Allis 1988), so the number is how
often the network alone, without search, plays a best move: 100 % in the end. Positions with their
best moves, as --config.task.solved=solved.txt, are made in a quarter of an hour by
  python -m mcts.games.connect_four_solver --positions=500 --output=solved.txt
Ours: 94.0 % of 500 positions (seed 0, 112 minutes of two cores); 92.2 % in an hour of one core
with 16 simulations. docs/selfplay.md has these and other ways.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='selfplay',
        game='connect_four',
        slots=256,
        simulations=64,
        rule='gumbel(considered=7,scale=0.0)',
        wander=0.8,
        value_mix=1.0,
        window=200_000,
        window_start=20_000,
        minimum=10_000,
        anchors=('random', 'rollout(simulations=100)'),
        match_games=100,
        match_simulations=32,
        opening=3,
        past_every=500,
        parts=True,
      ),
      model=dict(name='policy_value', blocks=4, channels=32),
      data=dict(name='selfplay', batch_size=1024),
      optimizer=dict(name='adam', learning_rate=2e-3, schedule='cosine', weight_decay=1e-4),
      train=dict(
        steps=3_000,
        log_every=50,
        eval_every=500,
        checkpoint_every=250,
        best='rollout/share',
        best_mode='max',
      ),
      paper=dict(title='Allis 1988', metric='solved/optimal', value=1.0, note='by a solver'),
    )
  )
