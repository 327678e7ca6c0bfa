"""Declares the task `language` to the launcher."""

from train.declaration import Declaration, Option, ReportWords

EVAL = (
  Option('text', 'text', 'a file: its perplexity, instead of the evaluation split'),
  Option(
    'stride',
    'integer',
    'tokens that a window moves by [half a block; all, of the evaluation split]',
  ),
  Option('choices', 'text', 'a JSON-lines file of context, choices and answer'),
)
SAMPLE = (
  Option('prompt', 'texts', 'what a text begins with; given again, one text for each'),
  Option('samples', 'integer', 'how many for each prompt [1]', least=1),
  Option('tokens', 'integer', 'the most that are added to a prompt [500]', least=1),
  Option('temperature', 'number', '0: always the most likely token [1]'),
  Option('top_k', 'integer', 'only the k most likely tokens, 0: all [0]'),
  Option('top_p', 'number', 'only the most likely tokens that have this probability together [1]'),
  Option('min_p', 'number', "only tokens of this share of the most likely one's probability [0]"),
  Option('repetition', 'number', 'above 1: tokens that were there become less likely [1]'),
  Option('stop', 'texts', 'a text ends before this'),
  Option('seed', 'integer', 'of all random numbers', 0),
)

TASKS = {
  'language': Declaration(
    task='train.tasks.language.task:Language',
    options={'eval': EVAL, 'sample': SAMPLE},
    free=('task.sample_tokens', 'task.prompt'),
    metric='val/loss',
    report=ReportWords('perplexity and bits per byte'),
  )
}
