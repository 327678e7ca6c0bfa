"""Declares the task `words` to the launcher."""

from train.declaration import Declaration, Option, ReportWords

EVAL = (
  Option(
    'analogies', 'text', "a file of questions 'a b c d' in sections ': name' [task.analogies]"
  ),
  Option('similarities', 'text', 'a file of pairs of words, each with a number: word word 7.5'),
)
SAMPLE = (
  Option('word', 'texts', 'whose neighbours are listed; may be given again [task.words]'),
  Option('minus', 'texts', 'a word to be taken away, as in king - man + woman; may be given again'),
  Option('plus', 'texts', 'a word to be added, likewise; may be given again'),
  Option('top', 'integer', 'how many neighbours are listed [10]', least=1),
)

TASKS = {
  'words': Declaration(
    task='train.tasks.words.task:Words',
    options={'eval': EVAL, 'sample': SAMPLE},
    free=('task',),
    metric='analogies/accuracy',
    report=ReportWords(
      'accuracy of analogies by section',
      measures=('accuracy', 'semantic', 'syntactic', 'loss', 'learning_rate'),
    ),
  )
}
