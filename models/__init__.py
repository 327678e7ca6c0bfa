"""Networks, one architecture a file, by the names that configs use."""

import functools
from collections.abc import Callable

import flax.linen as nn

from models import alexnet, alphago, alphazero, gpt, lenet, resnet
from models.diffusion import networks

DTYPES = ('float32', 'bfloat16')  # of the computation; parameters are float32

MODELS: dict[str, Callable[..., nn.Module]] = {
  'lenet5': lenet.lenet5,
  'lenet': lenet.lenet,
  'alexnet': alexnet.alexnet,
  'alexnet_one_column': alexnet.alexnet_one_column,
  'alexnet_cifar10': alexnet.alexnet_cifar10,
  **{f'resnet{n}': functools.partial(resnet.resnet_cifar, n) for n in (20, 32, 44, 56, 110)},
  **{f'resnet{n}': functools.partial(resnet.resnet_imagenet, n) for n in resnet.IMAGENET_STAGES},
  'gpt': gpt.GPT,
  **{name: functools.partial(gpt.GPT, **size) for name, size in gpt.SIZES.items()},
  'alphago_policy': alphago.policy,
  'alphago_value': alphago.value,
  'alphago_rollout': alphago.Rollout,
  **networks.NETWORKS,
  **{
    name: functools.partial(alphazero.PolicyValue, **size) for name, size in alphazero.SIZES.items()
  },
}


def build(name: str, **kwargs) -> nn.Module:
  """The network of that name, e.g. `build('resnet20', num_classes=10, dtype='bfloat16')`.

  `module.apply(variables, x: [B, H, W, C], train=...)` gives float32 logits `[B, num_classes]`.

  Raises ValueError for an unknown name or dtype, and for values that the network refuses.
  """
  if name not in MODELS:
    raise ValueError(f'model.name={name!r}: choose from {", ".join(MODELS)}')
  dtype = kwargs.get('dtype', 'float32')
  if dtype not in DTYPES:
    raise ValueError(f'model.dtype={dtype!r}: choose from {", ".join(DTYPES)}')
  return MODELS[name](**kwargs)
