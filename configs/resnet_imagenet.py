"""ResNet-50 on ImageNet (ILSVRC 2012), 90 epochs; ResNet-18 to 152 by --config.model.name.

python launch.py train --config=resnet_imagenet --workdir=runs/resnet50
python launch.py eval --workdir=runs/resnet50 --config.task.view='ten_crop(size=224)' \
  --config.data.decode_eval='resize_shorter(256)|center_crop(256)'

For 8 accelerators: --config.data.batch_size=1024 --config.optimizer.learning_rate=0.4 (the linear
rule of Goyal et al. 2017), with train.steps and optimizer.warmup_steps divided by 4. A folder of
images in the place of TFDS's imagenet2012: --config.data.dataset=folder --config.data.data_dir=DIR
(DIR/train/CLASS/*, DIR/val/CLASS/*) --config.data.eval_split=val; `prepare DIR` makes shards of it.

Paper: He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2015, table 3, ten crops:
ResNet-34 25.03 %, 50 22.85 %, 101 21.75 %, 152 21.43 % top-1 error.
Ours: not run, for want of the data.

The recipe is that of the public results since (Goyal et al. 2017): stride on the 3x3 convolution
(v1.5), residuals that begin at zero, inception crops, a warm-up of 5 epochs.
"""

from ml_collections import ConfigDict

EPOCH = 1_281_167 / 256  # steps


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='classify',
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        label_smoothing=0.1,
      ),
      model=dict(name='resnet50', zero_init_last_scale=True, dtype='bfloat16'),
      data=dict(
        name='images',
        dataset='imagenet2012',
        batch_size=256,
        eval_split='validation',
        decode_train='inception_crop(224)|random_flip()',
        decode_eval='resize_shorter(256)|center_crop(224)',
      ),
      optimizer=dict(
        name='sgd',
        learning_rate=0.1,
        schedule='cosine',
        warmup_steps=round(5 * EPOCH),
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
      ),
      train=dict(
        steps=round(90 * EPOCH), log_every=100, eval_every=round(EPOCH), checkpoint_every=1_000
      ),
      paper=dict(title='He et al. 2015', metric='test/error', value=0.2285),
    )
  )
