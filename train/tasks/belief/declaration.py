"""Declares the task `belief` to the launcher."""

from train.declaration import Declaration, Option, ReportWords

SAMPLE = (
  Option('samples', 'integer', 'how many images for each label [10]', least=1),
  Option(
    'label', 'texts', "the images' class: a name or number, several joined by commas [all classes]"
  ),
  Option('gibbs_steps', 'integer', 'iterations of Gibbs sampling in the top RBM [1000]', least=1),
  Option('seed', 'integer', 'of all random numbers', 0),
)

TASKS = {
  'belief': Declaration(
    task='train.tasks.belief.task:Belief',
    options={'sample': SAMPLE},
    report=ReportWords(
      'confusion, samples and receptive fields',
      measures=('error', 'loss', 'stage'),
      headings={
        'loss': 'Loss: reconstruction in training, label in evaluation',
        'learning_rate': 'Learning rate of the optimizer, a factor of the stages’ own',
      },
    ),
  )
}
