"""Declares the task `dqn` to the launcher."""

from train.declaration import Declaration, Option, ReportWords

# `play_` is of the episodes in which the agent learns, with its epsilon of then.
HEADINGS = {
  'return': 'Return of an episode',
  'play_return': 'Return of an episode while learning',
  'normalised': 'Human-normalised score',
  'value': 'Largest Q, and the discounted return that followed (means)',
  'length': 'Length of an episode (steps)',
  'play_length': 'Length of an episode while learning (steps)',
  'play_epsilon': 'Epsilon while learning',
  'loss': 'Huber loss, summed over the seeds',
  'td': 'Absolute TD error',
  'q': 'Mean Q of sampled actions',
  'play_frames': 'Frames so far, of each seed',
  'play_episodes_a_step': 'Episodes that end in a step',
  'play_frames_a_step': 'Frames a step',
  'grad_norm': 'Norm of the gradient',
}

SAMPLE = (
  Option('epsilon', 'number', 'share of random actions [that of evaluations]', least=0, most=1),
  Option('seed', 'integer', 'of all random numbers', 0),
)

TASKS = {
  'dqn': Declaration(
    task='train.tasks.dqn.task:DQN',
    options={'sample': SAMPLE},
    free=('task.evaluation',),
    metric='eval/return',
    report=ReportWords(
      'episodes at the epsilon of evaluations',
      measures=('return', 'play_return', 'value', 'normalised', *HEADINGS),
      matches=('return', 'play_return', 'value'),
      headings=HEADINGS,
      splits={'eval': 'mean', 'train': 'while learning', 'predicted': 'Q'},
    ),
  )
}
