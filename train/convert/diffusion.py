"""Diffusion models of public weights: diffusers' U-Net with its scheduler, and the authors' DiT."""

from collections.abc import Mapping
from typing import Any

from models.diffusion.processes import PROCESSES
from models.weights import dit, safetensors_folder, unet
from models.weights.checks import check_settings
from models.weights.files import Files
from models.weights.mapping import Network
from train.convert.format import Converted
from train.convert.vision import IMAGENET, imagenet_classes
from train.tasks.diffusion.options import build_spec

SCHEDULER = 'scheduler_config.json'
# Settings of a scheduler that change what the weights mean -> the values that are honoured.
SETTINGS: Mapping[str, tuple[Any, ...]] = {
  'beta_schedule': ('linear', 'squaredcos_cap_v2'),
  'prediction_type': ('epsilon', 'sample', 'v_prediction'),
  'variance_type': ('fixed_small', 'fixed_large', 'learned_range', 'fixed_small_log', None),
  'trained_betas': (None,),
  'rescale_betas_zero_snr': (False,),
}
PREDICTIONS = {'epsilon': 'eps', 'sample': 'x0', 'v_prediction': 'v'}
VARIANCES = {'fixed_large': 'large', 'learned_range': 'learned'}
# The sampling that DiT's authors publish their FID with: section 5 of the paper.
DIT_STEPS, DIT_GUIDANCE = 250, 1.5


def from_diffusers(files: Files) -> Converted:
  """Returns a U-Net of diffusers as a run folder, with the process of its scheduler."""
  network, size = unet.read(files)
  channels = network.variables['params']['conv_in']['kernel'].shape[2]
  task = task_of(scheduler_of(files), network)
  average = ', averaged' if files.path.name == 'unet_ema' or 'ema' in files.part else ''
  summary = f'a U-Net for {size} x {size} x {channels}, {task["process"]}{average}'
  return converted(network, task, size, channels, summary)


def from_dit(files: Files) -> Converted:
  """Returns a DiT of the authors as a run folder, which draws latents."""
  network, size = dit.read(files)
  learned = network.section['learned_variance']
  variance = 'learned' if learned else 'large'
  task = {
    'process': 'ddpm',
    'prediction': 'eps',
    'loss': {'weighting': 'hybrid' if learned else 'simple', 'low_discrepancy': False},
    'sampling': {
      'sampler': f'ancestral(variance={variance})',
      'num_steps': DIT_STEPS,
      'guidance_scale': DIT_GUIDANCE,
    },
  }
  part = f', of its {files.part!r}' if files.part else ''
  layers, heads = network.section['layers'], network.section['heads']
  summary = f'a DiT of {layers} layers and {heads} heads for latents {size} x {size} x 4{part}'
  return converted(network, task, size, dit.CHANNELS, summary)


def converted(
  network: Network, task: dict[str, Any], size: int, channels: int, summary: str
) -> Converted:
  """Returns the run folder of a network, which samples, is evaluated and trains on."""
  count = network.num_classes
  classes = imagenet_classes() if count == IMAGENET else [str(i) for i in range(count)]
  meaning: dict[str, Any] = {'image_shape': [size, size, channels]}
  if classes:
    meaning['classes'] = classes
    task = {**task, 'conditioning': {'on': 'label'}}
  config = {
    'task': {'name': 'diffusion', **task},
    'model': network.section,
    'data': data_of(size, channels),
    'optimizer': {'name': 'adam', 'learning_rate': 2e-5, 'warmup_steps': 100, 'clip_norm': 1.0},
    'train': {'steps': 1000, 'log_every': 10, 'eval_every': 500, 'best': 'val/loss'},
    'paper': {'title': 'imported weights', 'metric': 'val/loss'},
  }
  return Converted(config, network.variables, summary, meaning)


def data_of(size: int, channels: int) -> dict[str, Any]:
  """Returns the section `data`: CIFAR-10 where the size is its, else a folder of images."""
  common = {'name': 'images', 'batch_size': 64}
  if (size, channels) == (32, 3):
    return {**common, 'dataset': 'cifar10'}
  decode = f'resize_shorter({size})|center_crop({size})'
  return {**common, 'dataset': 'folder', 'decode_train': decode, 'decode_eval': decode}


# -------- diffusers' scheduler --------


def scheduler_of(files: Files) -> dict[str, Any]:
  """Returns the scheduler's settings; prints that DDPM's are taken where there are none."""
  places = (files.folder, files.folder / 'scheduler', files.folder.parent / 'scheduler')
  for path in (place / SCHEDULER for place in places):
    if path.is_file():
      config = safetensors_folder.read_json(path)
      check_settings(path, config, SETTINGS)
      return config
  print(f"{files.path}: holds no {SCHEDULER}; DDPM's 1,000 steps of betas 0.0001 to 0.02 are taken")
  return {'variance_type': 'fixed_large'}


def task_of(scheduler: Mapping[str, Any], network: Network) -> dict[str, Any]:
  """Returns the section `task` for a scheduler, whose defaults are diffusers'."""
  learned = network.section['learned_variance']
  steps = scheduler.get('num_train_timesteps', 1000)
  variance = VARIANCES.get(str(scheduler.get('variance_type')), 'small')
  variance = 'learned' if learned else 'small' if variance == 'learned' else variance
  return {
    'process': process_of(scheduler, steps),
    'prediction': PREDICTIONS[scheduler.get('prediction_type', 'epsilon')],
    'loss': {'weighting': 'hybrid' if learned else 'simple', 'low_discrepancy': False},
    'sampling': {
      'sampler': f'ancestral(variance={variance})',
      'num_steps': steps,
      'threshold': 'static' if scheduler.get('clip_sample', True) else 'none',
    },
  }


def process_of(scheduler: Mapping[str, Any], steps: Any) -> str:
  """Returns the spec of the process; UserError if its numbers cannot be."""
  settings = {} if steps == 1000 else {'steps': steps}
  if scheduler.get('beta_schedule', 'linear') != 'linear':
    settings['schedule'] = 'cosine'
  else:
    ends = {'beta_min': ('beta_start', 1e-4), 'beta_max': ('beta_end', 0.02)}
    for ours, (theirs, default) in ends.items():
      if (value := scheduler.get(theirs, default)) != default:
        settings[ours] = value
  inside = ', '.join(f'{name}={value}' for name, value in settings.items())
  spec = f'ddpm({inside})' if inside else 'ddpm'
  build_spec(spec, PROCESSES, 'process')
  return spec
