"""AlphaGo Zero as it was published, 20 blocks: for a pod of accelerators.

python launch.py train --config=go_19x19 --workdir=runs/go_19x19

Paper: Silver et al., Mastering the game of Go without human knowledge, 2017, Methods and extended
data table 3: 4.9 million games with 1,600 simulations a move, 700,000 steps of 2,048 positions of
the last 500,000 games; after 72 hours it won 100 % of 100 games against AlphaGo Lee.
Ours: not measured yet; no accelerator of that size was to be had.

Not as published: the network that plays is always the newest, as in AlphaZero (Silver et al. 2018),
where AlphaGo Zero took one that won 55 % against the last; superko is in the mask of legal moves; a
replay of 100 million positions stands for 500,000 games of some 200 moves. 1,536 games in
parallel, of one move a step each, have as many positions in all as the paper did.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='selfplay',
        game='go(size=19, komi=7.5)',
        num_envs=1_536,
        snapshot_every=10_000,
        selection='puct(fpu=loss, dirichlet_fraction=0.25, dirichlet_alpha=0.03)',
        search=dict(num_simulations=1_600, reuse_tree=True, random_symmetry=True),
        exploration=dict(temperature_moves=30),
        resignation=dict(max_false_positive_rate=0.05, disabled_fraction=0.1),
        replay=dict(window=100_000_000, min_size=1_000_000),
        evaluation=dict(num_games=128, num_simulations=400, timings=True),
      ),
      model=dict(name='alphago_zero20', dtype='bfloat16'),
      data=dict(name='selfplay', batch_size=2_048),
      optimizer=dict(
        name='sgd',
        learning_rate=1e-2,
        schedule='piecewise',
        milestones=(400_000, 600_000),
        momentum=0.9,
        weight_decay=1e-4,
        decay='all',
      ),
      train=dict(
        steps=700_000,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=1_000,
        best='past/share',
        best_mode='max',
      ),
      paper=dict(
        title='Silver et al. 2017', metric='past/share', note='against AlphaGo Lee: 100-0'
      ),
    )
  )
