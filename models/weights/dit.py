"""The authors' DiT (Peebles and Xie 2023), such as DiT-XL-2-256x256.pt.

It removes noise from latents of 4 channels; the autoencoder of images is not part of it.
"""

import re

import jax.numpy as jnp
import numpy as np

import models
from models.diffusion.dit import SIZES, positions
from models.weights import mapping
from models.weights.files import Files
from models.weights.mapping import LEAVES, Network, Path, Shape, TensorSource

CHANNELS = 4  # of latents
HEAD_WIDTH, HEAD_WIDTH_XL = 64, 72  # table 1 of the paper; no tensor tells it
OUTER = {
  **{'noise1': 't_embedder.mlp.0', 'noise2': 't_embedder.mlp.2', 'final': 'final_layer.linear'},
  'final_modulation': 'final_layer.adaLN_modulation.1',
}
BLOCK = {
  **{'modulation': 'adaLN_modulation.1', 'out': 'attn.proj'},
  **{'up': 'mlp.fc1', 'down': 'mlp.fc2'},
}
QKV = ('query', 'key', 'value')
POSITIONS, TABLE = 'pos_embed', 'y_embedder.embedding_table.weight'


def recognises(files: Files) -> bool:
  """Returns whether the files have the names of the authors' code."""
  return {TABLE, 'x_embedder.proj.weight'} <= set(files.tensors)


def read(files: Files) -> tuple[Network, int]:
  """Returns the network, and the height and width of its latents.

  Raises:
    ValueError: the files are no DiT's of the authors, or are damaged.
  """
  section, size, classes = _fields(files)
  module = models.build(**section, num_classes=classes)
  x = jnp.zeros((1, size, size, CHANNELS))
  layers, patch = section['layers'], section['patch']
  sources = {
    path: _source(path, shape, layers, patch)
    for path, shape in mapping.shapes_of(module, x, jnp.zeros(1)).items()
  }
  tensors = {name: tensor for name, tensor in files.tensors.items() if name != POSITIONS}
  variables = mapping.take(files.path, 'this DiT', tensors, sources)
  noise1 = variables['params']['noise1']
  noise1['kernel'] = np.roll(noise1['kernel'], len(noise1['kernel']) // 2, axis=0)  # cosines first
  places = positions(size // patch, size // patch, section['width'], columns_first=True)
  if not np.allclose(np.asarray(files.tensors[POSITIONS])[0], places, atol=1e-3):
    raise ValueError(f"{files.path}: {POSITIONS} holds other positions than the authors' DiT")
  return Network(section, variables, classes), size


def _fields(files: Files) -> tuple[dict, int, int]:
  """Returns the DiT's fields, the size of the latents, and the number of classes."""
  tensors = files.tensors
  shapes = [tensors[name].shape for name in ('x_embedder.proj.weight', TABLE)]
  if [len(shape) for shape in shapes] != [4, 2] or not all(shapes[0]):
    raise ValueError(f'{files.path}: its patches and labels are of shapes {shapes}')
  (width, _, patch, _), (rows, _) = shapes
  blocks = {match[1] for name in tensors if (match := re.match(r'blocks\.(\d+)\.', name))}
  places = tensors[POSITIONS].shape if POSITIONS in tensors else ()
  size = patch * round(places[1] ** 0.5) if len(places) == 3 else 0
  if not size or places != (1, (size // patch) ** 2, width):
    raise ValueError(f'{files.path}: {POSITIONS} of shape {places} is of no square image')
  heads, rest = divmod(width, HEAD_WIDTH_XL if width == SIZES['dit_xl']['width'] else HEAD_WIDTH)
  if rest or not heads:
    raise ValueError(f'{files.path}: width {width} should be a multiple of {HEAD_WIDTH}')
  final = tensors.get('final_layer.linear.bias')
  section = {
    'name': 'dit',
    'patch': patch,
    'layers': len(blocks),
    'heads': heads,
    'width': width,
    'learned_variance': final is not None and final.shape == (2 * CHANNELS * patch**2,),
    'freq_shift': 0,
    'columns_first': True,
  }
  return section, size, rows - 1


def _source(path: Path, shape: Shape, layers: int, patch: int) -> TensorSource:
  """Returns where one of our parameters is found."""
  _, *places, leaf = path
  name = '.'.join(places)
  if name == 'label':
    return TensorSource((TABLE,), shape, lambda x: x)
  if name == 'patch':
    return (
      _patch(shape, patch) if leaf == 'kernel' else mapping.source('x_embedder.proj.bias', shape)
    )
  if places[0] != 'blocks':
    return mapping.source(f'{OUTER[name]}.{LEAVES[leaf]}', shape)
  layer = places[1]
  part = (QKV.index(layer), len(QKV)) if layer in QKV else (0, 1)
  theirs = 'attn.qkv' if layer in QKV else BLOCK[layer]
  names = [f'blocks.{i}.{theirs}.{LEAVES[leaf]}' for i in range(layers)]
  return mapping.source(names, shape[1:], part=part)


def _patch(shape: Shape, patch: int) -> TensorSource:
  """Returns the source of the kernel `[patch² C, width]` of a convolution over patches."""
  rows, width = shape

  def convert(x: np.ndarray) -> np.ndarray:
    return x.transpose(2, 3, 1, 0).reshape(shape)

  return TensorSource(('x_embedder.proj.weight',), (width, rows // patch**2, patch, patch), convert)
