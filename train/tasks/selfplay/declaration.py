"""Declares the task `selfplay` to the launcher."""

from train.cli.options import Declaration

TASKS = {
  'selfplay': Declaration(
    task='train.tasks.selfplay.task:SelfPlayTask',
    free=('task.evaluation',),
    metric='random/share',
  )
}
