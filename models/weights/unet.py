"""diffusers' UNet2DModel, DDPM's network (Ho et al. 2020), such as google/ddpm-cifar10-32."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import models
from models.weights import mapping
from models.weights.checks import check_settings, shown
from models.weights.files import Files, Tensor
from models.weights.mapping import LEAVES, Network, Path

CLASS = 'UNet2DModel'
# Settings of config.json that change what is computed -> the values that are honoured.
SETTINGS: Mapping[str, tuple[Any, ...]] = {
  '_class_name': (CLASS,),
  'act_fn': ('silu', 'swish'),
  'add_attention': (True,),
  'attn_norm_num_groups': (None,),
  'center_input_sample': (False,),
  'class_embed_type': (None,),
  'downsample_padding': (1, 0),
  'downsample_type': ('conv',),
  'flip_sin_to_cos': (True, False),
  'freq_shift': (0, 1),
  'mid_block_scale_factor': (1,),
  'mid_block_type': ('UNetMidBlock2D',),
  'resnet_time_scale_shift': ('default',),
  'time_embedding_dim': (None,),
  'time_embedding_type': ('positional',),
  'upsample_type': ('conv',),
}
NUMBERS: Mapping[str, Any] = {
  **{'sample_size': None, 'in_channels': 3, 'out_channels': 3},
  **{'layers_per_block': 2, 'norm_num_groups': 32},
}
LARGEST, MOST_LEVELS = 4096, 10
BLOCKS = {'down': ('DownBlock2D', 'AttnDownBlock2D'), 'up': ('UpBlock2D', 'AttnUpBlock2D')}
LAYERS = {
  **{'embedding': 'time_emb_proj', 'shortcut': 'conv_shortcut', 'norm': 'group_norm'},
  **{'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'out': 'to_out.0'},
}
OUTER = {
  **{'conv_in': 'conv_in', 'conv_out': 'conv_out', 'norm_out': 'conv_norm_out'},
  **{'dense1': 'time_embedding.linear_1', 'dense2': 'time_embedding.linear_2'},
  'label': 'class_embedding',
}
# Attention in files of 2022 -> its names since.
OLD = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}


def recognises(files: Files) -> bool:
  """Returns whether diffusers wrote the files, of its U-Net for images."""
  return files.config.get('_class_name') == CLASS


def read(files: Files) -> tuple[Network, int]:
  """Returns the network, and the height and width of its images.

  Raises:
    ValueError: a setting is one that the U-Net here does not honour, or the files are damaged.
  """
  section, size, channels = _fields(files)
  classes = section.pop('num_classes')
  module = models.build(**section, num_classes=classes)
  shapes = mapping.shapes_of(module, (1, size, size, channels), (1,))
  levels = len(section['channel_multipliers'])
  sources = {path: mapping.source(_name(path, levels), shape) for path, shape in shapes.items()}
  if classes:
    path = ('params', 'embedding', 'label', 'embedding')
    name, shape = sources[path].names, shapes[path]
    sources[path] = mapping.TensorSource(name, shape, lambda x: x)
  variables = mapping.take(files.path, f'this {CLASS}', _renamed(files.tensors), sources)
  if files.config.get('flip_sin_to_cos', True):  # cosines before sines
    dense = variables['params']['embedding']['dense1']
    dense['kernel'] = np.roll(dense['kernel'], len(dense['kernel']) // 2, axis=0)
  return Network(section, variables, classes), size


# -------- config.json --------


def _fields(files: Files) -> tuple[dict[str, Any], int, int]:
  """Returns the U-Net's fields, and the height and channels of its images."""
  config, where = files.config, f'{files.path}/config.json'
  check_settings(where, config, SETTINGS)
  numbers = {name: config.get(name, default) for name, default in NUMBERS.items()}
  widths = config.get('block_out_channels', (224, 448, 672, 896))
  head, classes = config.get('attention_head_dim', 8), config.get('num_class_embeds')
  whole = {**numbers, 'attention_head_dim': head or 1, 'num_class_embeds': classes or 1}
  for name, value in whole.items():
    if type(value) is not int or not 0 < value <= LARGEST:
      raise ValueError(f'{where}: {name}={shown(config.get(name))} should be a whole number')
  if not _are_multiples(widths, numbers['norm_num_groups']):
    rule = f'multiples of the first and of norm_num_groups={numbers["norm_num_groups"]}'
    raise ValueError(f'{where}: block_out_channels={shown(widths)} should be {rule}')
  if len(widths) * numbers['layers_per_block'] > len(files.tensors):  # before layers are made
    raise ValueError(f'{files.path}: holds too few tensors for its config.json')
  channels, outputs = numbers['in_channels'], numbers['out_channels']
  if outputs not in (channels, 2 * channels):
    raise ValueError(f'{where}: out_channels={outputs} should be {channels} or twice that')
  resolutions = _attention(config, len(widths), numbers['sample_size'], where)
  section = {
    'name': 'unet',
    'channels': widths[0],
    'channel_multipliers': tuple(width // widths[0] for width in widths),
    'num_res_blocks': numbers['layers_per_block'],
    'attention_resolutions': resolutions,
    'head_width': head or 0,
    'groups': numbers['norm_num_groups'],
    'group_width': 4 if widths[0] >= 4 * numbers['norm_num_groups'] else 1,
    'norm_epsilon': _epsilon(config, where),
    'downsample_padding': config.get('downsample_padding', 1),
    'freq_shift': config.get('freq_shift', 0),
    'learned_variance': outputs > channels,
    'num_classes': classes or 0,
  }
  return section, numbers['sample_size'], channels


def _are_multiples(widths: Any, groups: int) -> bool:
  """Returns whether the widths are whole numbers that the U-Net here can have."""
  if not isinstance(widths, list | tuple) or not 0 < len(widths) <= MOST_LEVELS:
    return False
  whole = all(type(x) is int and 0 < x <= LARGEST for x in widths)
  return whole and not any(x % widths[0] or x % groups for x in widths)


def _epsilon(config: Mapping[str, Any], where: str) -> float:
  value = config.get('norm_eps', 1e-5)
  if type(value) not in (int, float) or not 0 < value < 1:
    raise ValueError(f'{where}: norm_eps={shown(value)} should be between 0 and 1')
  return float(value)


def _attention(config: Mapping[str, Any], levels: int, size: int, where: str) -> tuple[int, ...]:
  """Returns the heights of the maps with attention, the same on the way down and up."""
  attention = {}
  for way, (plain, with_attention) in BLOCKS.items():
    kinds = config.get(f'{way}_block_types', [])
    if type(kinds) is not list or len(kinds) != levels:
      raise ValueError(f'{where}: {way}_block_types={shown(kinds)} should be {levels} names')
    for kind in kinds:
      if kind not in (plain, with_attention):
        choices = f'choose from {plain}, {with_attention}'
        raise ValueError(f'{where}: {way}_block_types has {shown(kind)}; {choices}')
    attention[way] = [kind == with_attention for kind in kinds]
  if attention['down'] != attention['up'][::-1]:
    raise ValueError(f'{where}: down_block_types and up_block_types should mirror each other')
  return tuple(size >> level for level, attends in enumerate(attention['down']) if attends)


# -------- names --------


def _name(path: Path, levels: int) -> str:
  """Returns the name of the tensor for one of our parameters."""
  _, block, *layer, leaf = path
  if leaf == 'conv1_bias':
    layer, leaf = ['conv1'], 'bias'
  last = layer[-1] if layer else block
  if block in ('embedding', 'conv_in', 'conv_out', 'norm_out'):
    return f'{OUTER[last]}.{LEAVES[leaf]}'
  where, number, *rest = block.split('_')
  if where == 'middle':
    place = 'mid_block'
  else:
    level = int(where.removeprefix('down').removeprefix('up'))
    place = f'down_blocks.{level}' if 'down' in where else f'up_blocks.{levels - 1 - level}'
  if number == 'resample':
    return f'{place}.{where.rstrip("0123456789")}samplers.0.conv.{LEAVES[leaf]}'
  kind = 'attentions' if rest else 'resnets'
  return f'{place}.{kind}.{number}.{LAYERS.get(last, last)}.{LEAVES[leaf]}'


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """Returns the tensors with attention's names of today."""

  def rename(name: str) -> str:
    *places, layer, leaf = ['', *name.split('.')]
    renamed = OLD.get(layer, layer) if 'attentions' in places else layer
    return '.'.join([*places[1:], renamed, leaf])

  return {rename(name): x for name, x in tensors.items()}
