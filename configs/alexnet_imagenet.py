"""AlexNet on ImageNet (ILSVRC 2012), two columns, 90 epochs.

python launch.py train --config=alexnet_imagenet --workdir=runs/alexnet_imagenet
python launch.py eval --workdir=runs/alexnet_imagenet --config.task.view='ten_crop(size=224)'
python launch.py eval --workdir=runs/a,runs/b,runs/c --config.task.view='ten_crop(size=224)'

Each column on its own device: --config.mesh.tensor=2. One column (Krizhevsky 2014):
--config.model=alexnet_one_column. A folder of images in the place of TFDS's imagenet2012:
--config.data.dataset=folder --config.data.data_dir=DIR (DIR/train/CLASS/*, DIR/val/CLASS/*)
--config.data.eval_split=val.

Paper: Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural
networks, 2012, table 2: top-5 error 18.2 % of one network on the validation set (top-1 40.7 %);
15.3 % on the test set for an average of seven, two of them pre-trained on the 2011 release.
Ours: not run, for want of the data.
"""

from ml_collections import ConfigDict

EPOCH = 1_281_167 / 128  # steps


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      # Grey levels, 0 to 255 less the mean: the scale that the initial weights are for.
      task=dict(
        name='classify',
        mean=(0.485, 0.456, 0.406),
        std=1 / 255,
        augment='random_crop_to(size=224)|flip()|color_pca()',
        view='center_crop(size=224)',
      ),
      model=dict(name='alexnet'),
      data=dict(
        name='images',
        dataset='imagenet2012',
        batch_size=128,
        eval_split='validation',
        decode_train='resize_shorter(256)|center_crop(256)',
        decode_eval='resize_shorter(256)|center_crop(256)',
      ),
      # The paper divided by 10 by hand, three times, when the validation error stood still.
      optimizer=dict(
        name='sgd',
        learning_rate=0.01,
        schedule='piecewise',
        milestones=tuple(round(epoch * EPOCH) for epoch in (30, 60, 80)),
        momentum=0.9,
        rate_in_momentum=True,
        weight_decay=5e-4,
        decay='all',
      ),
      train=dict(
        steps=round(90 * EPOCH),
        log_every=100,
        eval_every=round(EPOCH),
        checkpoint_every=2000,
        best='test/error_top5',
      ),
      paper=dict(title='Krizhevsky et al. 2012', metric='test/error_top5', value=0.182),
    )
  )
