"""DCGAN on CIFAR-10, 30 epochs.

python launch.py train --config=dcgan_cifar10 --workdir=runs/dcgan_cifar10
python launch.py train --config=dcgan_cifar10 --workdir=runs/sngan_cifar10 \
  --config.task.loss=hinge --config.task.conditional=True \
  --config.task.regularization.spectral_norm=True --config.model.discriminator_norm=none

Paper: Radford, Metz, Chintala, Unsupervised representation learning with deep convolutional
generative adversarial networks, 2016. It has no number of its images; its discriminator's features
classify CIFAR-10 with an accuracy of 82.8 %. Ours: not trained yet.

Half the paper's width. The second command has the loss, the normalisation and the projection of
labels of Miyato et al. 2018 and Miyato and Koyama 2018, in these networks rather than theirs.
"""

from ml_collections import ConfigDict

EPOCH = 50_000 // 128  # steps


def get_config() -> ConfigDict:
  adam = dict(name='adam', learning_rate=2e-4, b1=0.5)
  return ConfigDict(
    dict(
      task=dict(name='gan', augment='flip()', sampling=dict(num_preview_samples=80)),
      model=dict(name='dcgan', width=64),
      data=dict(name='images', dataset='cifar10', batch_size=128, eval_batch_size=1000),
      optimizer=dict(name='adversarial', generator=adam, discriminator=adam),
      train=dict(steps=30 * EPOCH, log_every=100, eval_every=2 * EPOCH, best='', ema_decay=0.999),
      paper=dict(title='Radford et al. 2016', metric='FID'),
    )
  )
