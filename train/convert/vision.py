"""Image classifiers of public weights: ResNet and AlexNet."""

import importlib.util
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from models.weights import alexnet, resnet, safetensors_folder
from models.weights.files import Files
from models.weights.mapping import Network
from train.convert.format import Converted
from train.errors import shown

IMAGENET = 1000  # classes
# What torchvision's weights were trained and published with.
INPUTS: Mapping[str, Any] = {
  'mean': (0.485, 0.456, 0.406),
  'std': (0.229, 0.224, 0.225),
  'size': 224,
  'crop_pct': 0.875,
  'interpolation': 'bilinear',
}
PIL_INTERPOLATIONS = {2: 'bilinear', 3: 'bicubic'}  # as transformers' configs number them


def from_torchvision(files: Files) -> Converted:
  """Returns a ResNet of torchvision or timm as a run folder."""
  return convert(files, resnet.from_torchvision(files))


def from_transformers(files: Files) -> Converted:
  """Returns a ResNet of transformers as a run folder."""
  return convert(files, resnet.from_transformers(files))


def from_alexnet(files: Files) -> Converted:
  """Returns torchvision's AlexNet as a run folder."""
  return convert(files, alexnet.read(files))


def convert(files: Files, network: Network) -> Converted:
  """Returns a classifier whose run evaluates a folder of images with its published crop."""
  inputs = inputs_of(files)
  classes = classes_of(files, network.num_classes)
  shape = [inputs['size'], inputs['size'], 3]
  meaning = {'image_shape': shape, **({'classes': classes} if classes else {})}
  kind = 'ImageNet' if classes == imagenet_classes() else 'its own' if classes else 'unknown'
  summary = f'{network.section["name"]} of {network.num_classes} classes, {kind}'
  return Converted(config_of(network.section, inputs), network.variables, summary, meaning)


def config_of(model: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the config of a run that evaluates the weights, or trains them on for 1,000 steps."""
  size, resized = inputs['size'], round(inputs['size'] / inputs['crop_pct'])
  bicubic = ', bicubic=True' if inputs['interpolation'] == 'bicubic' else ''
  return {
    'task': {'name': 'classify', 'mean': inputs['mean'], 'std': inputs['std']},
    'model': dict(model),
    'data': {
      'name': 'images',
      'dataset': 'folder',
      'batch_size': 64,
      'eval_split': 'val',
      'decode_train': f'inception_crop({size})|random_flip()',
      'decode_eval': f'resize_shorter({resized}{bicubic})|center_crop({size})',
    },
    'optimizer': {
      'name': 'sgd',
      'learning_rate': 0.01,
      'schedule': 'cosine',
      'warmup_steps': 50,
      'momentum': 0.9,
      'weight_decay': 1e-4,
    },
    'train': {'steps': 1000, 'log_every': 10, 'eval_every': 200, 'best': 'test/error'},
    'paper': {'title': 'imported weights', 'metric': 'test/error'},
  }


# -------- what the network sees --------


def inputs_of(files: Files) -> dict[str, Any]:
  """Returns INPUTS as timm's or transformers' files say them, where they do.

  Raises:
    ValueError: they say what cannot be.
  """
  if not files.path.is_dir():
    return dict(INPUTS)
  said = _of_timm(files.config) or _of_transformers(files.folder / 'preprocessor_config.json')
  found = {**INPUTS, **{name: value for name, value in said.items() if value is not None}}
  found |= {name: tuple(found[name]) for name in ('mean', 'std') if type(found[name]) is list}
  if problem := _problem(found):
    raise ValueError(f'{files.path}: its images have {problem}')
  return found


def _of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
  said = config.get('pretrained_cfg')
  if not isinstance(said, dict):
    return {}
  size = said.get('test_input_size', said.get('input_size'))
  return {
    'mean': said.get('mean'),
    'std': said.get('std'),
    'size': size[-1] if isinstance(size, list) and size else size,
    'crop_pct': said.get('test_crop_pct', said.get('crop_pct')),
    'interpolation': said.get('interpolation'),
  }


def _of_transformers(path: pathlib.Path) -> dict[str, Any]:
  if not path.is_file():
    return {}
  said = safetensors_folder.read_json(path)
  size, number = said.get('size'), said.get('resample')
  return {
    'mean': said.get('image_mean'),
    'std': said.get('image_std'),
    'size': size.get('shortest_edge') if isinstance(size, dict) else size,
    'crop_pct': said.get('crop_pct'),
    'interpolation': None if number is None else PIL_INTERPOLATIONS.get(number, number),
  }


def _problem(inputs: Mapping[str, Any]) -> str:
  """Returns the setting of INPUTS that cannot be, in words; '' if all can."""
  size, share = inputs['size'], inputs['crop_pct']
  right = {
    'size': type(size) is int and 32 <= size <= 2048,
    'crop_pct': type(share) in (int, float) and 0.1 <= share <= 1,
    'interpolation': inputs['interpolation'] in PIL_INTERPOLATIONS.values(),
    'mean': _is_colour(inputs['mean']),
    'std': _is_colour(inputs['std']) and min(inputs['std']) > 0,
  }
  wrong = [name for name, is_right in right.items() if not is_right]
  return f'{wrong[0]}={shown(inputs[wrong[0]])}, which is not supported' if wrong else ''


def _is_colour(value: Any) -> bool:
  """Returns whether a value is of three finite numbers."""
  if not isinstance(value, tuple) or len(value) != 3:
    return False
  return all(type(x) in (int, float) and math.isfinite(x) for x in value)


# -------- classes --------


def classes_of(files: Files, count: int) -> list[str]:
  """Returns the names of the classes in their order, as folders of images have; [] for unknown.

  A thousand are ImageNet's, which are ordered by the WordNet ids that name their folders.
  """
  labels = files.config.get('id2label', {})
  found = [labels.get(str(i)) for i in range(count)] if isinstance(labels, dict) else []
  names = [x for i, x in enumerate(found) if type(x) is str and x and x != f'LABEL_{i}']
  told = len(set(names)) == count
  if count == IMAGENET and (not told or names[0].startswith('tench')):
    return imagenet_classes()
  return names if told else []


def imagenet_classes() -> list[str]:
  """Returns the WordNet ids of ImageNet's classes, from the list that TFDS comes with."""
  package = importlib.util.find_spec('tensorflow_datasets')  # without importing it
  assert package is not None and package.submodule_search_locations
  folder = pathlib.Path(package.submodule_search_locations[0])
  return (folder / 'datasets' / 'imagenet2012' / 'labels.txt').read_text().split()
