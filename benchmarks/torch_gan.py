"""The GAN of 2014 and DCGAN in PyTorch, in its own idiom: what ours are measured against."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.turns import Burst

LAYOUTS = {'nchw': torch.contiguous_format, 'channels_last': torch.channels_last}
LATENTS = 100


class Maxout(nn.Module):
  """The largest of `pieces` linear units each."""

  def __init__(self, inputs: int, features: int, pieces: int = 5):
    super().__init__()
    self.linear, self.pieces = nn.Linear(inputs, features * pieces), pieces

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.linear(x).unflatten(1, (self.pieces, -1)).amax(1)


def mlp(shape: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
  """Returns the generator and the discriminator of 2014."""
  height, width, channels = shape
  pixels = math.prod(shape)
  generator = nn.Sequential(
    *(nn.Linear(LATENTS, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU()),
    *(nn.Linear(1200, pixels), nn.Sigmoid(), nn.Unflatten(1, (channels, height, width))),
  )
  discriminator = nn.Sequential(
    *(nn.Flatten(), nn.Dropout(0.2), Maxout(pixels, 240), nn.Dropout(0.5), Maxout(240, 240)),
    *(nn.Dropout(0.5), nn.Linear(240, 1)),
  )
  return generator, discriminator


def dcgan(shape: tuple[int, int, int], width: int) -> tuple[nn.Module, nn.Module]:
  """Returns both networks for images of 32 pixels, as `models.gan.dcgan` has them."""
  channels = [4 * width, 2 * width, width]
  up: list[nn.Module] = [nn.Linear(LATENTS, 16 * channels[0]), nn.Unflatten(1, (-1, 4, 4))]
  for inputs, outputs in zip(channels, [*channels[1:], shape[2]], strict=True):
    last = outputs == shape[2]
    up += [nn.BatchNorm2d(inputs), nn.ReLU()]
    up += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=last)]
  down: list[nn.Module] = []
  for level, (inputs, outputs) in enumerate(
    zip([shape[2], width, 2 * width], channels[::-1], strict=True)
  ):
    down += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not level)]
    down += [nn.BatchNorm2d(outputs)] * (level > 0) + [nn.LeakyReLU(0.2)]
  down += [nn.Flatten(), nn.Linear(16 * channels[0], 1)]
  return nn.Sequential(*up, nn.Tanh()), nn.Sequential(*down)


def make_burst(
  shape: tuple[int, int, int], batch: int, model: Mapping[str, Any], layout: str
) -> tuple[Burst, int]:
  """Returns a function of n training steps, and the number of parameters of both networks."""
  both = mlp(shape) if model['name'] == 'gan' else dcgan(shape, model['width'])
  memory = LAYOUTS[layout]
  # The stubs of `to` know nothing of memory formats.
  generator, discriminator = (cast(Any, net).to(memory_format=memory) for net in both)
  adams = [
    torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True) for net in both
  ]
  real = torch.rand(batch, shape[2], *shape[:2]).to(memory_format=memory)
  ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)
  bce = F.binary_cross_entropy_with_logits

  def burst(steps: int) -> None:
    for _ in range(steps):
      fake = generator(torch.randn(batch, LATENTS))
      loss = bce(discriminator(real), ones) + bce(discriminator(fake.detach()), zeros)
      adams[1].zero_grad(set_to_none=True)
      loss.backward()
      adams[1].step()
      # The discriminator's gradients are not asked for here.
      discriminator.requires_grad_(False)
      fooled = bce(discriminator(fake), ones)
      adams[0].zero_grad(set_to_none=True)
      fooled.backward()
      adams[0].step()
      discriminator.requires_grad_(True)
    loss.item()

  return burst, sum(p.numel() for net in both for p in net.parameters())
