"""Declares the task `selfplay` to the launcher."""

from train.declaration import Declaration, ReportWords

# What each chart shows, in the words of the papers; `play_` is of the games of self-play.
HEADINGS = {
  'elo': 'Elo over each opponent',
  'share': 'Points won against each opponent',
  'as_first': 'Points won when moving first',
  'as_second': 'Points won when moving second',
  'losses': 'Lines of play that the network loses',
  'losses_as_first': 'Lines that it loses when moving first',
  'losses_as_second': 'Lines that it loses when moving second',
  'lines': 'Lines of play in all',
  'optimal': 'Best moves, by a solver',
  'loss': 'Loss, all terms',
  'policy': "Cross-entropy with the search's policy (nats)",
  'value': 'Squared error of the value',
  'ownership': 'Squared error of the ownership',
  'score': 'Squared error of the score',
  'agreement': "Likeliest move is the search's",
  'search_mse': "Squared error of the search's value",
  'calibration': 'Calibration error of the value',
  'grad_norm': 'Norm of the gradient',
  'threshold': 'Value below which a player resigns',
  'play_length': 'Length of a game (moves)',
  'play_first_share': 'Points of who moves first',
  'play_draws': 'Drawn games',
  'play_entropy': "Entropy of the search's policy (nats)",
  'play_search_value': "The search's value for who moves first",
  'play_simulations': 'Simulations a move',
  'play_resigned': 'Games that end by resignation',
  'play_resign_false_positives': 'Resignations that would have been wrong',
  'play_opponent_share': 'Points won against past networks',
  'play_replay': 'Positions in the replay',
  'play_games_a_step': 'Games a training step',
  'play_moves_a_step': 'Moves a training step',
  'play_simulations_a_step': 'Simulations a training step',
  'play_games_per_second': 'Games a second',
  'play_moves_per_second': 'Moves a second',
  'play_simulations_per_second': 'Simulations a second',
}

TASKS = {
  'selfplay': Declaration(
    task='train.tasks.selfplay.task:SelfPlayTask',
    free=('task.evaluation',),
    plays=True,
    metric='random/share',
    report=ReportWords(
      'matches against fixed players',
      measures=tuple(HEADINGS),
      headings=HEADINGS,
      splits={'raw': 'random, without search', 'past': 'its last snapshot'},
      time_shares=('network', 'search', 'environment', 'training'),
    ),
  )
}
