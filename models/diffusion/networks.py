"""The networks of diffusion models by the names that configs use, each a `DenoisingNetwork`."""

import functools
from collections.abc import Callable

import flax.linen as nn

from models.diffusion import dit, unet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
  'unet': unet.UNet,
  **{name: functools.partial(unet.UNet, **size) for name, size in unet.SIZES.items()},
  'dit': dit.DiT,
  **{name: functools.partial(dit.DiT, **size) for name, size in dit.SIZES.items()},
}
