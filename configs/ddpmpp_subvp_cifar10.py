"""DDPM++ cont. (deep) with the sub-VP SDE on CIFAR-10: 950,000 steps of 128 images.

python launch.py train --config=ddpmpp_subvp_cifar10 --workdir=runs/ddpmpp_subvp_cifar10

Paper: Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole, Score-based generative modeling through
stochastic differential equations, 2021, table 2: 2.99 bits/dim on uniformly dequantised test
images by the probability flow, the least of the paper, and FID 2.92 by the same; table 3: FID 2.41
by 1,000 steps of Euler-Maruyama. Ours: not measured yet.

A CIFAR-10 whose images went through JPEG has other bits/dim, which are not to be compared.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='diffusion',
        process='subvp',
        prediction='eps',
        loss=dict(weighting='simple', low_discrepancy=False),
        augment='flip()',
        sampling=dict(sampler='euler_maruyama', num_steps=1000, num_preview_samples=64),
      ),
      model=dict(name='ddpmpp_deep'),
      data=dict(name='images', dataset='cifar10', batch_size=128),
      optimizer=dict(name='adam', learning_rate=2e-4, warmup_steps=5_000, clip_norm=1.0),
      train=dict(
        steps=950_000,
        log_every=100,
        eval_every=50_000,
        checkpoint_every=5_000,
        best='val/loss',
        ema_decay=0.9999,
      ),
      paper=dict(title='Song et al. 2021', metric='bpd_ode', value=2.99),
    )
  )
