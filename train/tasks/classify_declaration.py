"""Declares the task `classify` to the launcher."""

from train.cli.options import Declaration

TASKS = {'classify': Declaration(task='train.tasks.classify:Classify', free=('task.view',))}
