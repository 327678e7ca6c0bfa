"""ResNet-18 to 152 of torchvision, of timm where it is that network, and of transformers.

Theirs are `models.resnet.resnet_imagenet`, version v1.5: a bottleneck's 3x3 convolution has the
stride. transformers' config may say v1; of a file alone the two cannot be told.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import models
from models.resnet import IMAGENET_STAGES
from models.weights import mapping
from models.weights.checks import check_settings, shown
from models.weights.files import Files
from models.weights.mapping import LEAVES, Network, Path

NAMES = [f'resnet{depth}' for depth in IMAGENET_STAGES]

# transformers' settings that change what is computed -> the values that are honoured.
SETTINGS: Mapping[str, tuple[Any, ...]] = {
  'hidden_act': ('relu',),
  'downsample_in_first_stage': (False,),
  'downsample_in_bottleneck': (False, True),
  'quantization_config': (None,),
}
TORCHVISION = {'stem': 'conv1', 'stem_norm': 'bn1', 'full': 'fc'}
TRANSFORMERS = {
  'stem': 'resnet.embedder.embedder.convolution',
  'stem_norm': 'resnet.embedder.embedder.normalization',
  'full': 'classifier.1',
}
CHANNELS = 3


def is_torchvision(files: Files) -> bool:
  """Returns whether the files have torchvision's names, which are timm's."""
  return {'conv1.weight', 'bn1.weight', 'layer1.0.conv1.weight'} <= set(files.tensors)


def is_transformers(files: Files) -> bool:
  """Returns whether transformers wrote the files."""
  if 'model_type' in files.config:
    return files.config['model_type'] == 'resnet'
  return f'{TRANSFORMERS["stem"]}.weight' in files.tensors


def from_torchvision(files: Files) -> Network:
  """Reads a ResNet of torchvision or timm.

  Raises:
    ValueError: it is another network, or damaged.
  """
  # A block may differ without another tensor, as timm's with blurred pooling does.
  if (name := files.config.get('architecture', 'resnet50')) not in NAMES:
    raise ValueError(f"{files.path}: is timm's {shown(name)}; choose from {', '.join(NAMES)}")
  section = {'name': _name(files, r'layer(\d+)\.(\d+)\.conv(\d)\.weight')}
  return _read(files, section, TORCHVISION, _torchvision)


def from_transformers(files: Files) -> Network:
  """Reads a ResNet of transformers; errors as in `from_torchvision`."""
  check_settings(files.folder / 'config.json', files.config, SETTINGS)
  pattern = r'resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d)\.convolution\.weight'
  section = {'name': _name(files, pattern)}
  if files.config.get('downsample_in_bottleneck'):
    section['version'] = 'v1'
  return _read(files, section, TRANSFORMERS, _transformers)


def _name(files: Files, pattern: str) -> str:
  """Returns the name of the network with as many blocks as the tensors have."""
  found = [match for name in files.tensors if (match := re.fullmatch(pattern, name))]
  blocks = Counter(stage for stage, _ in {(int(match[1]), match[2]) for match in found})
  stages = tuple(blocks[stage] for stage in sorted(blocks))
  bottleneck = len({match[3] for match in found}) == 3
  for depth, table in IMAGENET_STAGES.items():
    if table == (stages, bottleneck):
      return f'resnet{depth}'
  kind = 'bottlenecks' if bottleneck else 'blocks of two convolutions'
  raise ValueError(f'{files.path}: stages of {stages} {kind}; choose from {", ".join(NAMES)}')


def _read(
  files: Files,
  section: dict[str, Any],
  outer: Mapping[str, str],
  inner: Callable[[int, int, str], str],
) -> Network:
  classes = mapping.num_classes(files, outer['full'])

  def name_of(path: Path) -> str:
    *places, leaf = path[1:]
    if len(places) == 1:
      return f'{outer[places[0]]}.{LEAVES[leaf]}'
    stage, block = map(int, re.findall(r'\d+', places[0]))
    return f'{inner(stage, block, places[1])}.{LEAVES[leaf]}'

  module = models.build(**section, num_classes=classes)
  shapes = mapping.shapes_of(module, (1, 64, 64, CHANNELS))
  sources = {path: mapping.source(name_of(path), shape) for path, shape in shapes.items()}
  variables = mapping.take(files.path, f'a {section["name"]}', files.tensors, sources)
  return Network(section, variables, classes)


def _torchvision(stage: int, block: int, layer: str) -> str:
  """Returns the name of a layer of a block, both counted from 1."""
  shortcut = {'projection': 'downsample.0', 'projection_norm': 'downsample.1'}
  return f'layer{stage}.{block - 1}.{shortcut.get(layer, layer.replace("norm", "bn"))}'


def _transformers(stage: int, block: int, layer: str) -> str:
  kind = 'normalization' if 'norm' in layer else 'convolution'
  number = int(layer[-1]) - 1 if layer[-1].isdigit() else None
  place = 'shortcut' if number is None else f'layer.{number}'
  return f'resnet.encoder.stages.{stage - 1}.layers.{block - 1}.{place}.{kind}'
