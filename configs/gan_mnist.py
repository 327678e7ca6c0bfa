"""The GAN of 2014 on MNIST, 250 epochs: half an hour on two cores, by estimate.

python launch.py train --config=gan_mnist --workdir=runs/gan_mnist
python launch.py eval --workdir=runs/gan_mnist --parzen=test
python launch.py eval --workdir=runs/gan_mnist --samples=10000 --classifier=runs/lenet_mnist \
  --config.data.eval_split=test

Paper: Goodfellow et al., Generative adversarial nets, 2014, table 1: 225 +- 2 nats of Parzen
estimate on MNIST's test images. Ours: not trained yet.

Networks, initial weights, dropout, rates, momentum, decay and the split into 50,000 and 10,000 are
those of the authors' public configuration, whose latents are normal. It halves the discriminator's
loss, for which its rate is half the generator's here. Both are updated at the same time, as there.
"""

from ml_collections import ConfigDict

EPOCH = 500  # steps


def sgd(learning_rate: float) -> dict:
  return dict(
    name='sgd',
    learning_rate=learning_rate,
    schedule='exponential',
    factor=1 / 1.000004,
    final_learning_rate=1e-6,
    momentum=0.5,
    momentum_steps=250 * EPOCH,
    final_momentum=0.7,
    rate_in_momentum=True,
  )


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(name='gan', mean_bias=True),
      model=dict(name='gan'),
      data=dict(
        name='images',
        dataset='mnist',
        train_split='train[:50000]',
        eval_split='train[50000:]',
        batch_size=100,
        eval_batch_size=1000,
      ),
      optimizer=dict(name='adversarial', generator=sgd(0.1), discriminator=sgd(0.05)),
      train=dict(steps=250 * EPOCH, log_every=EPOCH, eval_every=25 * EPOCH, best=''),
      paper=dict(title='Goodfellow et al. 2014', metric='parzen', value=225.0),
    )
  )
