"""A class-conditional U-Net for scikit-learn's handwritten digits: a minute on a laptop.

python launch.py train --config=diffusion_digits --workdir=runs/diffusion_digits
python launch.py sample --workdir=runs/diffusion_digits --label=3,7 --samples=8 --path
python launch.py train --config=diffusion_digits --workdir=runs/diffusion_captions \
  --config.task.conditioning.on=caption --config.model.context_width=32
python launch.py sample --workdir=runs/diffusion_captions --prompt='a handwritten three'

Paper: none; process, network's preconditioning, loss and times are those of Karras, Aittala, Aila,
Laine, Elucidating the design space of diffusion-based generative models, 2022. Ours: a loss of
0.265 (seed 0) on the 20 % of the 1,797 digits that are held out, and a readable grid.

The digits have 8 x 8 pixels; grids show them enlarged.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict(
    dict(
      task=dict(
        name='diffusion',
        process='edm',
        prediction='edm',
        loss=dict(weighting='edm', time_distribution='log_normal'),
        conditioning=dict(on='label', caption='a handwritten {}'),
        sampling=dict(
          sampler='multistep',
          timestep_schedule='asinh',
          num_steps=20,
          guidance_scale=2.0,
          num_preview_samples=60,
        ),
      ),
      # Few channels, the same at both levels: it compiles in ten seconds.
      model=dict(
        name='unet',
        channels=28,
        channel_multipliers=(1, 1),
        num_res_blocks=2,
        attention_resolutions=(4,),
        head_width=14,
        groups=7,
      ),
      data=dict(
        name='images',
        dataset='digits',
        batch_size=32,
        eval_batch_size=180,
        decode_train='resize(8)',
        decode_eval='resize(8)',
      ),
      optimizer=dict(name='adam', learning_rate=2e-3, schedule='cosine', warmup_steps=100),
      train=dict(steps=1000, log_every=100, eval_every=500, best='val/loss', ema_decay=0.99),
      paper=dict(metric='val/loss'),
    )
  )
