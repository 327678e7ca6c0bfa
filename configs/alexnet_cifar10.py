"""AlexNet's CIFAR-10 network: 13 % test error without, 11 % with local response normalisation.

python launch.py train --config=alexnet_cifar10 --workdir=runs/alexnet_cifar10
python launch.py eval --workdir=runs/alexnet_cifar10 --config.task.view='ten_crop(size=24)'
python launch.py train --config=alexnet_cifar10 --config.model.lrn=false --config.paper.value=0.13 \
  --workdir=runs/alexnet_cifar10_plain

Paper: Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural
networks, 2012, section 3.3. Ours: README's table, docs/results.

The rate falls by 10 twice near the end, as in the authors' code; one weight decay for all layers.
"""

from ml_collections import ConfigDict

EPOCH = 50_000 / 128  # steps


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      # Grey levels, 0 to 255 less the mean: the scale that the initial weights are for.
      task=dict(
        name='classify',
        mean=(0.491, 0.482, 0.447),
        std=1 / 255,
        augment='random_crop_to(size=24)|flip()',
        view='center_crop(size=24)',
      ),
      model=dict(name='alexnet_cifar10', lrn=True),
      data=dict(name='images', dataset='cifar10', batch_size=128),
      optimizer=dict(
        name='sgd',
        learning_rate=0.001,
        schedule='piecewise',
        milestones=(round(500 * EPOCH), round(510 * EPOCH)),
        momentum=0.9,
        weight_decay=0.004,
      ),
      train=dict(steps=round(520 * EPOCH), log_every=100, eval_every=round(20 * EPOCH)),
      paper=dict(title='Krizhevsky et al. 2012', metric='test/error', value=0.11),
    )
  )
