"""NCSN++ cont. (deep) with the VE SDE on CIFAR-10: 950,000 steps of 128 images.

python launch.py train --config=ncsnpp_ve_cifar10 --workdir=runs/ncsnpp_ve_cifar10

Paper: Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole, Score-based generative modeling through
stochastic differential equations, 2021, table 3: FID 2.20 and an inception score of 9.89, by 1,000
steps of predictor and corrector, which are 2,000 evaluations; 2.38 with half the depth. Ours: not
measured yet.

The paper's sigma, 0.01 to 50, is of images in [0, 1]; ours are in [-1, 1].
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='diffusion',
        process='ve(sigma_min=0.02, sigma_max=100)',
        prediction='eps',
        loss=dict(weighting='simple', low_discrepancy=False),
        augment='flip()',
        sampling=dict(
          sampler='predictor_corrector(snr=0.16)', num_steps=1000, num_preview_samples=64
        ),
      ),
      model=dict(name='ncsnpp_deep'),
      data=dict(name='images', dataset='cifar10', batch_size=128),
      optimizer=dict(name='adam', learning_rate=2e-4, warmup_steps=5_000, clip_norm=1.0),
      train=dict(
        steps=950_000,
        log_every=100,
        eval_every=50_000,
        checkpoint_every=5_000,
        best='val/loss',
        ema_decay=0.999,
      ),
      paper=dict(title='Song et al. 2021', metric='FID', value=2.20),
    )
  )
