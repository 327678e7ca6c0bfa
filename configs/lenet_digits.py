"""LeNet on scikit-learn's handwritten digits: half a minute on a laptop, no download.

python launch.py train --config=lenet_digits --workdir=runs/lenet_digits

Paper: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition,
1998. Its 0.95 % are MNIST's; the 1,797 images of 8 x 8 pixels here are another set, of which 360
are for testing. Ours: 0.11 +- 0.25 % (5 seeds: docs/results).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='classify',
        mean=0.3,
        std=0.35,
        augment='affine(rotation=10.0, scale=0.1, shear=0.1, shift=2.0)',
      ),
      model=dict(name='lenet'),
      data=dict(name='images', dataset='digits', batch_size=64),
      optimizer=dict(
        name='sgd',
        learning_rate=0.05,
        schedule='cosine',
        warmup_steps=50,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
      ),
      train=dict(steps=1500, log_every=50, eval_every=300),
    )
  )
