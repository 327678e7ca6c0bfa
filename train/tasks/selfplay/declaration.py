"""Declares the task `selfplay` to the launcher."""

from train.declaration import Declaration, ReportWords

TASKS = {
  'selfplay': Declaration(
    task='train.tasks.selfplay.task:SelfPlayTask',
    free=('task.evaluation',),
    plays=True,
    metric='random/share',
    report=ReportWords(
      'matches against fixed players',
      time_shares=('network', 'search', 'environment', 'training'),
    ),
  )
}
