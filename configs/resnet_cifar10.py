"""ResNet-20 on CIFAR-10, 64,000 steps; ResNet-32, 44, 56 and 110 by --config.model.name.

python launch.py train --config=resnet_cifar10 --workdir=runs/resnet20
python launch.py train --config=resnet_cifar10 --config.model.name=resnet56 \
  --config.paper.value=0.0697 --workdir=runs/resnet56

Paper: He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2015, table 6:
ResNet-20 8.75 %, 32 7.51 %, 44 7.17 %, 56 6.97 %, 110 6.43 % (6.61 +- 0.16). ResNet-110 warms up:
--config.optimizer.warmup_steps=400 --config.optimizer.warmup_learning_rate=0.01.
Ours: README's table, docs/results.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='classify',
        mean=(0.491, 0.482, 0.447),
        std=(0.247, 0.243, 0.262),
        augment='random_crop(padding=4)|flip()',
      ),
      model=dict(name='resnet20'),
      data=dict(name='images', dataset='cifar10', batch_size=128),
      optimizer=dict(
        name='sgd',
        learning_rate=0.1,
        schedule='piecewise',
        milestones=(32_000, 48_000),
        momentum=0.9,
        weight_decay=1e-4,
        decay='all',
      ),
      train=dict(steps=64_000, log_every=100, eval_every=4_000, checkpoint_every=1_000),
      paper=dict(title='He et al. 2015', metric='test/error', value=0.0875),
    )
  )
