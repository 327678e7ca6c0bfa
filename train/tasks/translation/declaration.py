"""Declares the task `translation` to the launcher."""

from train.declaration import Declaration, Option, ReportWords

SEARCH = (
  Option(
    'beams', 'integer', 'hypotheses that are followed at a time, 1: greedy [5]', least=1, most=256
  ),
  Option('alpha', 'number', 'of the length penalty; 0: none, 1: the mean of a piece [0.6]'),
)
TRANSLATE = (
  Option('text', 'text', 'a file to translate, a sentence a line [stdin]'),
  Option('prompt', 'texts', 'a sentence to translate; may be given again'),
  *SEARCH,
)

TASKS = {
  'translation': Declaration(
    task='train.tasks.translation.task:Translation',
    options={'eval': SEARCH, 'translate': TRANSLATE},
    free=('task.bleu_sentences', 'data.test_split'),
    metric='test/bleu',
    report=ReportWords(
      'BLEU of the test split',
      measures=('bleu', 'loss', 'cross_entropy', 'learning_rate'),
      headings={'cross_entropy': 'cross-entropy, without smoothing', 'bleu': 'BLEU'},
    ),
  )
}
