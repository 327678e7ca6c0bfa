"""A DCGAN for scikit-learn's handwritten digits: a minute on a laptop.

python launch.py train --config=gan_digits --workdir=runs/gan_digits
python launch.py sample --workdir=runs/gan_digits --label=3,7 --samples=8
python launch.py sample --workdir=runs/gan_digits --interpolate

Paper: none; the networks are those of Radford, Metz, Chintala, Unsupervised representation learning
with deep convolutional generative adversarial networks, 2016, told the class. Ours: a LeNet reads
99 % of 1,000 samples as the class that they were told (README's table),

python launch.py train --config=lenet_digits --config.data.decode_train='resize(16)' \
  --config.data.decode_eval='resize(16)' --workdir=runs/lenet_digits16
python launch.py eval --workdir=runs/gan_digits --samples=1000 --classifier=runs/lenet_digits16

The digits have 8 x 8 pixels, which are doubled here; grids show them enlarged.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  adam = dict(name='adam', learning_rate=5e-4, b1=0.5)
  return ConfigDict(
    dict(
      task=dict(name='gan', conditional=True, sampling=dict(num_preview_samples=80)),
      model=dict(name='dcgan', width=32, latent_size=32),
      data=dict(
        name='images',
        dataset='digits',
        batch_size=64,
        eval_batch_size=180,
        decode_train='resize(16)',
        decode_eval='resize(16)',
      ),
      optimizer=dict(name='adversarial', generator=adam, discriminator=adam),
      train=dict(steps=3000, log_every=100, eval_every=500, best='', ema_decay=0.99),
      paper=dict(metric='accuracy-lenet'),
    )
  )
