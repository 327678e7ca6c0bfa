"""Declares the task `classify` to the launcher."""

from train.declaration import Declaration, ReportWords

TASKS = {
  'classify': Declaration(
    task='train.tasks.classify:Classify',
    free=('task.view',),
    report=ReportWords('confusion, samples and filters'),
  )
}
