r"""Connect Four from nothing but its rules, by Gumbel's search: two hours on two CPU cores.

XLA_FLAGS=--xla_force_host_platform_device_count=2 \
  python launch.py train --config=connect_four --workdir=runs/connect_four

Paper: Danihelka, Guez, Schrittwieser, Silver, Policy improvement by planning with Gumbel, 2022,
whose method this is; it has no Connect Four. The game is solved (Allis 1988), so the number is how
often the network alone, without search, plays a best move: 100 % in the end. Positions with their
best moves, for --config.task.evaluation.solved_positions=solved.txt, are made in a quarter of an
hour by
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
        num_envs=256,
        snapshot_every=500,
        selection='gumbel(max_num_considered_actions=7, gumbel_scale=0.0)',
        search=dict(num_simulations=64),
        # Good play alone does not reach most positions; outcomes say little after random moves.
        exploration=dict(random_move_prob=0.8),
        loss=dict(value_target_mix=1.0),
        replay=dict(window=200_000, initial_window=20_000, min_size=10_000),
        evaluation=dict(
          baselines=('random', 'rollout(num_simulations=100)'),
          num_games=100,
          num_simulations=32,
          opening_moves=3,
          timings=True,
        ),
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
