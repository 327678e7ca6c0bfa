"""A deep belief net of scikit-learn's handwritten digits: a minute on a laptop, no download.

python launch.py train --config=dbn_digits --workdir=runs/dbn_digits
python launch.py sample --workdir=runs/dbn_digits --label=3,7

Paper: Hinton, Osindero, Teh, A fast learning algorithm for deep belief nets, 2006. Its 1.25 % are
MNIST's; the 1,797 images here are another set, of which 360 are for testing. Ours: not trained yet.

Three RBMs, one after another, then the up-down algorithm: the metric `stage` says which.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='belief',
        greedy=dict(steps=(150, 150, 300), learning_rate=0.1, initial_steps=20),
        updown=dict(steps=(150, 150), gibbs_steps=(3, 6), learning_rate=0.05),
      ),
      model=dict(name='dbn', hidden=(200, 200), top=500),
      data=dict(name='images', dataset='digits', batch_size=20),
      # Adds what the mini-batches of a step came to; their rates are the task's.
      optimizer=dict(name='sgd', learning_rate=1.0, momentum=0.0),
      train=dict(steps=900, log_every=50, eval_every=150),
    )
  )
