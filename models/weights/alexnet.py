"""torchvision's AlexNet, the network of one column (Krizhevsky 2014, arXiv 1404.5997)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

import models
from models.weights import mapping
from models.weights.files import Files
from models.weights.mapping import LEAVES, Network

NAME = 'alexnet_torchvision'
LAYERS = {
  **{'conv1': 'features.0', 'conv2': 'features.3', 'conv3': 'features.6', 'conv4': 'features.8'},
  **{'conv5': 'features.10', 'full6': 'classifier.1', 'full7': 'classifier.4'},
  'full8': 'classifier.6',
}
MAPS = (6, 6, 256)  # what full6 sees


def recognises(files: Files) -> bool:
  """Returns whether the files have the names and the first kernel of torchvision's AlexNet."""
  first = files.tensors.get('features.0.weight')
  return first is not None and first.shape[2:] == (11, 11)


def read(files: Files) -> Network:
  """Returns the network.

  Raises:
    ValueError: it is another one, or damaged.
  """
  classes = mapping.num_classes(files, LAYERS['full8'])
  module = models.build(NAME, num_classes=classes)
  sources = {}
  for path, shape in mapping.shapes_of(module, jnp.zeros((1, 224, 224, 3))).items():
    _, layer, leaf = path
    sources[path] = mapping.source(f'{LAYERS[layer]}.{LEAVES[leaf]}', shape)
  full6 = sources['params', 'full6', 'kernel']
  sources['params', 'full6', 'kernel'] = dataclasses.replace(full6, convert=_flattened)
  variables = mapping.take(files.path, NAME, files.tensors, sources)
  return Network({'name': NAME}, variables, classes)


def _flattened(x: np.ndarray) -> np.ndarray:
  """Returns the kernel `[h w C, out]` of one over maps that were flattened as `[C, h, w]`."""
  height, width, channels = MAPS
  return x.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, len(x))
