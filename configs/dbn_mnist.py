"""A deep belief net of MNIST, RBM after RBM and then whole: 1.25 % without knowing what a pixel is.

python launch.py train --config=dbn_mnist --workdir=runs/dbn_mnist

Paper: Hinton, Osindero, Teh, A fast learning algorithm for deep belief nets, Neural Computation
18:1527, 2006: 2.49 % after the greedy stages, 1.39 % after 300 epochs of the up-down algorithm on
44,000 images, 1.25 % after 59 more on all 60,000. Ours: not trained yet.

The paper does not say its rates. A short run of these, on 60,000 images: 3.15 % after 6, 6 and 8
epochs of the RBMs.
"""

from ml_collections import ConfigDict

MINI_BATCHES = 110  # a step
EPOCH = 4  # steps: 44,000 images in mini-batches of 100
FULL_EPOCHS = 59 * 600 // MINI_BATCHES  # steps on all 60,000 images


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='belief',
        mini_batches=MINI_BATCHES,
        per_class=4_400,
        validation=10_000,
        greedy=dict(
          steps=(30 * EPOCH, 30 * EPOCH, 30 * EPOCH), learning_rate=0.05, initial_steps=EPOCH
        ),
        updown=dict(
          steps=(100 * EPOCH, 100 * EPOCH, 100 * EPOCH),
          gibbs_steps=(3, 6, 10),
          learning_rate=0.05,
          full_steps=FULL_EPOCHS,
        ),
      ),
      model=dict(name='dbn'),
      data=dict(name='images', dataset='mnist', batch_size=100, eval_batch_size=1000),
      # Adds what the mini-batches of a step came to; their rates are the task's.
      optimizer=dict(name='sgd', learning_rate=1.0, momentum=0.0),
      train=dict(
        steps=390 * EPOCH + FULL_EPOCHS,
        log_every=EPOCH,
        eval_every=10 * EPOCH,
        best='val/error',
      ),
      paper=dict(title='Hinton, Osindero, Teh 2006', metric='test/error', value=0.0125),
    )
  )
