"""Word2Vec beside gensim, in turns: `python -m benchmarks.word2vec --text=FILE`.

Ours as the loop runs it, with what reads the text and leaves out frequent words; gensim with two
workers on the same text, in memory as lists of words. Words a second are of the text, those left
out included. A ratio is of neighbouring bursts: median, and 10th to 90th percentile.
"""

import os
import statistics
from typing import Any

from benchmarks import turns
from train.runtime import host

WORDS = 131_072  # of the text, read in a call of a burst
SENTENCE = 1000  # words; gensim drops what is beyond 10,000 of a line
WORKERS = 2  # gensim's

CASES: dict[str, dict[str, Any]] = {
  'skipgram': {},
  'cbow': {'architecture': 'cbow'},
  'hierarchical': {'objective': 'hierarchical_softmax', 'block': 16},
}
RATES = {'skipgram': 0.025, 'cbow': 0.05, 'hierarchical': 0.025}
ENGINES = ('ours', 'gensim')


def ours(case: str, text: str) -> tuple[turns.Burst, int]:
  """Returns what is timed, and the size of the vocabulary."""
  import jax

  from data.text.words.source import WordData
  from train import mesh as mesh_lib
  from train.optim import make_optimizer
  from train.step import init_state, make_step
  from train.tasks.words.task import Words

  data = WordData(text, batch_size=8, chunk=WORDS // 8)
  task = Words({'name': 'word2vec', **CASES[case]}, data)
  tx, schedule = make_optimizer('sgd', steps=1000, learning_rate=RATES[case], momentum=0.0)
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    step: Any = make_step(task, tx, shardings, schedule=schedule)
  source, done = task.source('train', mesh, 0), 0

  def burst(calls: int) -> None:
    nonlocal state, done
    with mesh_lib.activate(mesh):
      for _ in range(calls):
        _, batch = source.next((), done, {})
        state, metrics = step(state, batch)
        done += 1
    jax.block_until_ready(metrics)

  return burst, data.vocab_size


def gensim(case: str, text: str) -> tuple[turns.Burst, int]:
  """Returns the same of gensim."""
  import gensim as library

  sentences, known = sentences_of(text)
  model: Any = library.models.Word2Vec(
    vector_size=100,
    window=5,
    min_count=1,
    sample=1e-3,
    workers=WORKERS,
    sg=int(case != 'cbow'),
    hs=int(case == 'hierarchical'),
    negative=0 if case == 'hierarchical' else 5,
    alpha=RATES[case],
  )
  model.build_vocab(sentences)
  at = 0

  def burst(calls: int) -> None:
    nonlocal at
    some, size = [], 0
    while size < calls * WORDS:
      some.append(sentences[at % len(sentences)])
      size += len(some[-1])
      at += 1
    model.train(some, total_examples=len(some), epochs=1)

  return burst, known


def sentences_of(text: str) -> tuple[list[list[str]], int]:
  """Returns the text's words that count, in lists of at most SENTENCE, and how many differ."""
  import numpy as np

  from data.text.words.corpus import END
  from data.text.words.source import WordData

  found = WordData(text).corpus
  names, stream = np.array(found.vocabulary.words, object), np.asarray(found.stream)
  ends = np.flatnonzero(stream == END)
  lines = (names[line[line != END]].tolist() for line in np.split(stream, ends))
  cut = [line[i : i + SENTENCE] for line in lines for i in range(0, len(line), SENTENCE)]
  return cut, len(names)


def main() -> None:
  """Runs the command."""
  parser = turns.parser('benchmarks.word2vec', __doc__, rounds=7, seconds=3.0)
  parser.add_argument('--text', default='python_docs', help='a file [%(default)s]')
  parser.add_argument('--cases', default='skipgram,cbow', help='some of ' + ', '.join(CASES))
  options = parser.parse_args()
  if options.worker:
    engine, case, text = options.worker
    burst, known = {'ours': ours, 'gensim': gensim}[engine](case, text)
    return turns.serve(burst, vocabulary=known)
  cases = turns.words(parser, '--cases', options.cases, CASES)
  engines = [name for name in ENGINES if name == 'ours' or turns.installed('gensim')]
  host.use_compilation_cache()
  results: dict[str, Any] = {}
  for case in cases:
    arguments = {engine: ('--worker', engine, case, options.text) for engine in engines}
    workers = [turns.Worker(e, 'benchmarks.word2vec', arguments[e]) for e in engines]
    times = turns.measure(workers, options.rounds, options.seconds)
    results[case] = {}
    for engine, seconds in times.items():
      row: dict[str, Any] = {'words_per_second': WORDS / statistics.median(seconds)}
      if 'gensim' in times:
        row |= turns.ratios(times['gensim'], seconds)
      results[case][engine] = row
      ratio = turns.show(row) if 'ratio' in row else ''
      print(f'{case:14} {engine:8} {row["words_per_second"]:12,.0f} words/s {ratio}')
    name = os.path.basename(options.text)
    turns.save(options.json, rounds=options.rounds, text=name, cases=results)


if __name__ == '__main__':
  main()
