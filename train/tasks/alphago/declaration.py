"""Declares AlphaGo's tasks to the launcher."""

from train.declaration import Declaration, ReportWords

POSITIONS = ReportWords('metrics on the test positions')

GAMES = {
  'elo': 'Elo over each opponent',
  'share': 'Points won against each opponent',
  'won': 'Games won against the pool of past policies',
  'turns': 'Length of a game (moves)',
}

TASKS = {
  'go_policy': Declaration(
    task='train.tasks.alphago.policy:GoPolicy',
    plays=True,
    metric='test/accuracy',
    report=POSITIONS,
  ),
  'go_value': Declaration(
    task='train.tasks.alphago.value:GoValue',
    plays=True,
    free=('task.engine',),
    metric='test/loss',
    report=POSITIONS,
  ),
  'go_value_selfplay': Declaration(
    task='train.tasks.alphago.value_selfplay:GoValueSelfPlay',
    plays=True,
    free=('task.engine',),
    metric='test/loss',
    report=POSITIONS,
  ),
  'go_reinforce': Declaration(
    task='train.tasks.alphago.reinforce:GoReinforce',
    plays=True,
    metric='random/share',
    report=ReportWords('matches against fixed players', headings=GAMES),
  ),
}
