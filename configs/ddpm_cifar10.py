"""DDPM's U-Net of 35.7 M parameters on CIFAR-10: 800,000 steps of 128 images.

python launch.py train --config=ddpm_cifar10 --workdir=runs/ddpm_cifar10 \
  --config.model.dtype=bfloat16
python launch.py sample --workdir=runs/ddpm_cifar10 --config.task.sampling.sampler=ddim \
  --config.task.sampling.num_steps=50

Paper: Ho, Jain, Abbeel, Denoising diffusion probabilistic models, 2020, table 1 and section 4: FID
3.17 (50,000 images against the training set), at most 3.75 bits/dim on the test set; 13.51 and
3.70 with the bound's own weights. DDIM (Song et al. 2021, table 1) has FID 4.67 in 50 steps.
Ours: not measured yet.

A CIFAR-10 whose images went through JPEG has other bits/dim, which are not to be compared.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='diffusion',
        process='ddpm',
        prediction='eps',
        loss=dict(weighting='simple', low_discrepancy=False),
        augment='flip()',
        sampling=dict(
          sampler='ancestral(variance=large)',
          num_steps=1000,
          threshold='static',
          num_preview_samples=64,
        ),
      ),
      model=dict(name='ddpm'),
      data=dict(name='images', dataset='cifar10', batch_size=128),
      optimizer=dict(name='adam', learning_rate=2e-4, warmup_steps=5_000, clip_norm=1.0),
      train=dict(
        steps=800_000,
        log_every=100,
        eval_every=20_000,
        checkpoint_every=5_000,
        best='val/loss',
        ema_decay=0.9999,
      ),
      paper=dict(title='Ho et al. 2020', metric='FID', value=3.17),
    )
  )
