"""AlphaGo, all of it, against GNU Go 3.8: its search with policy, values and rollouts on 19x19.

python launch.py match --config=alphago_match --workdir=runs/alphago_match

The keys are flags of match, and a flag of the command comes before its key: --games=2 --time=300.
Paper: Silver et al., Mastering the game of Go with deep neural networks and tree search, 2016: one
machine won 99.8 % of 495 games against Crazy Stone, Zen, Pachi, Fuego and GNU Go at 5 s a move.
Ours: 0 % of 2 games, with 16 simulations and the small networks of docs/selfplay.md; with the
paper's not trained yet. Before it: alphago_policy, alphago_rollout, and alphago_value with a run of
each for `task.engine.policy` and `task.engine.rollout_policy`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      first='runs/alphago_value',
      # Without the last flag it passes over stones that are dead, and the score counts as alive.
      second='gnugo --mode gtp --level 10 --chinese-rules --positional-superko --capture-all-dead',
      size=19,
      komi=7.5,
      games=100,
      opening=0,
      num_simulations=400,
    )
  )
