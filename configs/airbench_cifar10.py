"""A small network for CIFAR-10 by today's recipe: an hour on two cores, by estimate.

python launch.py train --config=airbench_cifar10 --workdir=runs/airbench_cifar10

Paper: Jordan, 94 % on CIFAR-10 in 3.29 seconds on a single GPU, 2024 (airbench94: 94.0 % in 9.9
passes). Ours: not trained yet.

What is the paper's: the network with its whitening, label smoothing, the small shifts, and in
evaluation the mean over shifted and mirrored views.
"""

from ml_collections import ConfigDict

BATCH = 500
EPOCH = 50_000 // BATCH  # steps


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='classify',
        mean=(0.491, 0.482, 0.447),
        std=(0.247, 0.243, 0.262),
        augment='random_crop(padding=2)|flip()',
        label_smoothing=0.2,
        view='mirrored_shifts()',
      ),
      model=dict(name='airbench94'),
      data=dict(name='images', dataset='cifar10', batch_size=BATCH, eval_batch_size=500),
      optimizer=dict(
        name='muon',
        learning_rate=0.01,
        schedule='linear',
        warmup_steps=2 * EPOCH,
        momentum=0.9,
      ),
      train=dict(steps=10 * EPOCH, log_every=20, eval_every=EPOCH, ema_decay=0.98),
      paper=dict(title='Jordan 2024', metric='test/error', value=0.06),
    )
  )
