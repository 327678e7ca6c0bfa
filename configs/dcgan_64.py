"""DCGAN at 64 pixels with the networks of the paper, on any folder of images, or ImageNet.

python launch.py train --config=dcgan_64 --workdir=runs/dcgan_64 --config.data.dataset=folder \
  --config.data.data_dir=DIR

Paper: Radford, Metz, Chintala, Unsupervised representation learning with deep convolutional
generative adversarial networks, 2016. It has no number of its images; its discriminator's features
classify CIFAR-10 with an accuracy of 82.8 %. Ours: not trained yet.

Sizes, initial weights, uniform latents, batch, rate and momentum are the paper's; its images are
three million bedrooms (LSUN), faces, and ImageNet's at 32 pixels.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  adam = dict(name='adam', learning_rate=2e-4, b1=0.5)
  decode = 'resize_shorter(64)|center_crop(64)'
  return ConfigDict(
    dict(
      task=dict(name='gan', latent='uniform', augment='flip()'),
      model=dict(name='dcgan', width=128, window=5),
      data=dict(
        name='images',
        dataset='imagenet2012',
        eval_split='validation',
        batch_size=128,
        decode_train=decode,
        decode_eval=decode,
      ),
      optimizer=dict(name='adversarial', generator=adam, discriminator=adam),
      train=dict(steps=50_000, log_every=100, eval_every=2000, best='', ema_decay=0.999),
      paper=dict(title='Radford et al. 2016', metric='FID'),
    )
  )
