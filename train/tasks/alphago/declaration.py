"""Declares AlphaGo's tasks to the launcher."""

from train.cli.options import Declaration

TASKS = {
  'go_policy': Declaration(task='train.tasks.alphago.policy:GoPolicy', metric='test/accuracy'),
  'go_value': Declaration(
    task='train.tasks.alphago.value:GoValue',
    free=('task.engine',),
    metric='test/squared_error',
  ),
  'go_value_selfplay': Declaration(
    task='train.tasks.alphago.value_selfplay:GoValueSelfPlay',
    free=('task.engine',),
    metric='test/squared_error',
  ),
  'go_reinforce': Declaration(
    task='train.tasks.alphago.reinforce:GoReinforce', metric='random/share'
  ),
}
