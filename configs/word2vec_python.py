"""Word2Vec (CBOW) on the documentation of Python's library: a minute on a laptop, no download.

python launch.py train --config=word2vec_python --workdir=runs/word2vec_python
python launch.py sample --workdir=runs/word2vec_python --word=list --word=error --word=import

Paper: none; no number on this text is published. The text is the documentation strings of the
running interpreter's library (CPython 3.11: 1.8 MB, 0.28 M words), read 22 times.
Ours: 1.43 nats a prediction on the training text itself (CPython 3.11.7, seed 0).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='words', words=('list', 'error', 'import', 'file', 'thread', 'string', 'class')
      ),
      model=dict(name='word2vec', architecture='cbow', width=100),
      data=dict(name='words', dataset='python_docs', chunk=4096, min_count=5),
      optimizer=dict(
        name='sgd',
        momentum=0.0,
        learning_rate=0.05,
        schedule='linear',
        final_learning_rate=5e-6,
      ),
      train=dict(steps=200, log_every=10, best='text/loss'),
      paper=dict(metric='text/loss'),
    )
  )
