"""The outputs of every layer, in torch and here."""

import numpy as np
import torch

import models


def images(size=64):
  """Two images `[2, size, size, 3]`."""
  return np.random.default_rng(0).normal(size=(2, size, size, 3)).astype('f4')


def theirs(module, x, *args, **kwargs):
  """The output of every part of a torch module by name, images last; x `[B, H, W, C]`."""
  found = {}

  def keep(name):
    def hook(module, inputs, output):
      if isinstance(output, torch.Tensor):
        found[name] = output.permute(0, 2, 3, 1).numpy() if output.ndim == 4 else output.numpy()

    return hook

  for name, part in module.named_modules():
    part.register_forward_hook(keep(name))
  with torch.no_grad():
    module(torch.tensor(x).permute(0, 3, 1, 2), *args, **kwargs)
  return found


def ours(network, *inputs):
  """Our layers' outputs by path, and the whole's as ''."""
  classes = {'num_classes': network.num_classes} if network.num_classes else {}
  net = models.build(**network.section, **classes)
  kept = lambda _, method: method == '__call__'  # noqa: E731
  y, state = net.apply(
    network.variables, *inputs, train=False, capture_intermediates=kept, mutable=['intermediates']
  )
  found = {}

  def walk(tree, path):
    for name, value in tree.items():
      if name == '__call__':
        found['/'.join(path)] = np.asarray(value[0])
      else:
        walk(value, (*path, name))

  walk(state['intermediates'], ())
  return {**found, '': np.asarray(y)}


def close(one, other):
  """Checks that two outputs are the same to 1e-4 of their size."""
  np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))
