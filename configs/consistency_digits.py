"""The diffusion of digits, distilled into a network that draws in one step: minutes on two cores.

python launch.py train --config=diffusion_digits --workdir=runs/diffusion_digits
python launch.py train --config=consistency_digits --workdir=runs/consistency_digits
python launch.py sample --workdir=runs/consistency_digits --label=3,7 --samples=8

Paper: Song, Dhariwal, Chen, Sutskever, Consistency models, 2023, algorithm 2; its numbers are of
CIFAR-10 (FID 3.55 in one step, 2.93 in two). Ours: a classifier agrees with the label of 92 %
of 500 samples in one step, 94 % in two (seed 0; of the teacher's in 20 steps, 99 %).
"""

from ml_collections import ConfigDict

from configs import diffusion_digits

SHARED = 'process', 'prediction', 'conditioning'  # as the teacher has them


def get_config() -> ConfigDict:
  teacher = diffusion_digits.get_config()
  return ConfigDict(
    dict(
      task=dict(
        name='consistency',
        teacher='runs/diffusion_digits',
        **{key: teacher.task[key] for key in SHARED},
        distillation=dict(num_levels=18, guidance_scale=1.5),
        sampling=dict(num_steps=1, num_preview_samples=60),
      ),
      model=teacher.model,
      data=teacher.data,
      optimizer=dict(name='adam', learning_rate=4e-4, schedule='cosine', warmup_steps=100),
      train=dict(steps=2000, log_every=100, eval_every=1000, best='val/loss', ema_decay=0.99),
      paper=dict(metric='val/loss'),
    )
  )
