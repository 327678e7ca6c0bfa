"""LeNet, AlexNet and ResNets in PyTorch, in its own idiom: what ours are measured against."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.turns import Burst


class LeNet(nn.Module):
  """LeNet with ReLU and max pooling, as `models.lenet` has it under the name lenet."""

  def __init__(self, num_classes):
    super().__init__()
    self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
    self.full1, self.full2 = nn.Linear(400, 120), nn.Linear(120, 84)
    self.output = nn.Linear(84, num_classes)

  def forward(self, x):
    x = F.pad(x, (2, 2, 2, 2), mode='replicate')
    x = F.max_pool2d(F.relu(self.conv1(x)), 2)
    x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
    return self.output(F.relu(self.full2(F.relu(self.full1(x)))))


class AlexNet(nn.Module):
  """AlexNet, its two columns as groups; torch divides the alpha of response normalisation by 5."""

  def __init__(self, num_classes):
    super().__init__()
    self.convs = nn.ModuleList(
      [
        nn.Conv2d(3, 96, 11, 4),
        nn.Conv2d(96, 256, 5, 1, 2, groups=2),
        nn.Conv2d(256, 384, 3, 1, 1),
        nn.Conv2d(384, 384, 3, 1, 1, groups=2),
        nn.Conv2d(384, 256, 3, 1, 1, groups=2),
      ]
    )
    self.full6, self.full7 = nn.Linear(9216, 4096), nn.Linear(4096, 4096)
    self.full8 = nn.Linear(4096, num_classes)

  def forward(self, x):
    x = F.pad(x, (1, 2, 1, 2))
    for i, conv in enumerate(self.convs):
      x = F.relu(conv(x))
      if i < 2:
        x = F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
      if i in (0, 1, 4):
        x = F.max_pool2d(x, 3, 2)
    x = F.dropout(F.relu(self.full6(x.flatten(1))), 0.5, self.training)
    x = F.dropout(F.relu(self.full7(x)), 0.5, self.training)
    return self.full8(x)


class Block(nn.Module):
  """A residual block: two 3x3 convolutions, or 1x1, 3x3 (with the stride), 1x1."""

  def __init__(self, inputs, channels, stride, bottleneck):
    super().__init__()
    outputs = channels * (4 if bottleneck else 1)
    sizes = (1, 3, 1) if bottleneck else (3, 3)
    widths = [inputs, channels, channels, outputs] if bottleneck else [inputs, channels, outputs]
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    self.convs = nn.ModuleList(
      nn.Conv2d(a, b, k, s, k // 2, bias=False)
      for a, b, k, s in zip(widths[:-1], widths[1:], sizes, strides, strict=True)
    )
    self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
    self.inputs, self.outputs, self.stride = inputs, outputs, stride
    self.project = None
    if bottleneck and (stride > 1 or inputs != outputs):
      conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
      self.project = nn.Sequential(conv, nn.BatchNorm2d(outputs))

  def shortcut(self, x):
    """Returns the input in the shape of the output: projected, or (option A) padded."""
    if self.project is not None:
      return self.project(x)
    missing = self.outputs - self.inputs
    if missing:  # every other pixel, zeros for the new channels
      return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, missing))
    return x

  def forward(self, x):
    y = x
    for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
      y = norm(conv(y))
      if i + 1 < len(self.convs):
        y = F.relu(y)
    return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
  """A ResNet; `large` is for images of 224 pixels, else of 32."""

  def __init__(self, num_classes, stages, width, large, bottleneck):
    super().__init__()
    self.large = large
    size, stride = (7, 2) if large else (3, 1)
    self.stem = nn.Conv2d(3, width, size, stride, size // 2, bias=False)
    self.norm = nn.BatchNorm2d(width)
    blocks, inputs = [], width
    for stage, count in enumerate(stages):
      for i in range(count):
        stride = 2 if stage and i == 0 else 1
        blocks.append(Block(inputs, width * 2**stage, stride, bottleneck))
        inputs = blocks[-1].outputs
    self.blocks = nn.Sequential(*blocks)
    self.full = nn.Linear(inputs, num_classes)

  def forward(self, x):
    x = F.relu(self.norm(self.stem(x)))
    if self.large:
      x = F.max_pool2d(x, 3, 2, 1)
    return self.full(self.blocks(x).mean((2, 3)))


NETS: dict[str, Callable[[int], nn.Module]] = {
  'lenet': LeNet,
  'alexnet': AlexNet,
  'resnet20': lambda classes: ResNet(classes, (3, 3, 3), 16, large=False, bottleneck=False),
  'resnet50': lambda classes: ResNet(classes, (3, 4, 6, 3), 64, large=True, bottleneck=True),
}


def make_burst(
  net: str,
  batch: int,
  shape: tuple[int, int, int],
  classes: int,
  *,
  layout: str,
  compiled: bool,
) -> tuple[Burst, int]:
  """Returns a function of n training steps, and the number of the network's parameters.

  Args:
    net: a key of NETS.
    batch: images a step.
    shape: [H, W, C] of an image.
    classes: their number.
    layout: 'nchw' or 'channels_last'.
    compiled: whether by torch.compile.
  """
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  memory = {'nchw': torch.contiguous_format, 'channels_last': torch.channels_last}[layout]
  model: Any = NETS[net](classes)  # `to` has no overload with both arguments
  model.to(device, memory_format=memory).train()
  parameters = sum(p.numel() for p in model.parameters())
  optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
  images = torch.randn(batch, shape[2], *shape[:2], device=device).to(memory_format=memory)
  labels = torch.randint(classes, (batch,), device=device)
  run = torch.compile(model) if compiled else model

  def burst(steps: int) -> None:
    for _ in range(steps):
      optimizer.zero_grad(set_to_none=True)
      with torch.autocast('cuda', torch.bfloat16, enabled=device == 'cuda'):
        loss = F.cross_entropy(run(images), labels)
      loss.backward()
      optimizer.step()
    loss.item()

  return burst, parameters
