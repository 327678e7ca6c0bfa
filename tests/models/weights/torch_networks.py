"""torchvision's ResNet and AlexNet in torch: its names and its sums, since it has no CPU build."""

import torch
from torch import nn


class Block(nn.Module):
  """Two 3x3 convolutions, or a bottleneck with the stride on its 3x3."""

  def __init__(self, inputs, channels, stride, bottleneck):
    super().__init__()
    outputs = channels * (4 if bottleneck else 1)
    sizes = [1, 3, 1] if bottleneck else [3, 3]
    widths = [inputs, channels, channels, outputs] if bottleneck else [inputs, channels, outputs]
    strided = 1 if bottleneck else 0
    self.count = len(sizes)
    for i, size in enumerate(sizes):
      step = stride if i == strided else 1
      conv = nn.Conv2d(widths[i], widths[i + 1], size, step, size // 2, bias=False)
      setattr(self, f'conv{i + 1}', conv)
      setattr(self, f'bn{i + 1}', nn.BatchNorm2d(widths[i + 1]))
    self.downsample = None
    if stride > 1 or inputs != outputs:
      conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
      self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

  def forward(self, x):
    y = x
    for i in range(1, self.count + 1):
      y = getattr(self, f'bn{i}')(getattr(self, f'conv{i}')(y))
      y = y.relu() if i < self.count else y
    return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
  def __init__(self, stages, bottleneck, classes=7):
    super().__init__()
    self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
    self.pool, inputs = nn.MaxPool2d(3, 2, 1), 64
    for i, blocks in enumerate(stages):
      layers = []
      for j in range(blocks):
        layers.append(Block(inputs, 64 * 2**i, 2 if i and not j else 1, bottleneck))
        inputs = 64 * 2**i * (4 if bottleneck else 1)
      setattr(self, f'layer{i + 1}', nn.Sequential(*layers))
    self.fc = nn.Linear(inputs, classes)

  def forward(self, x):
    x = self.pool(self.bn1(self.conv1(x)).relu())
    for i in range(1, 5):
      x = getattr(self, f'layer{i}')(x)
    return self.fc(x.mean((2, 3)))


class AlexNet(nn.Module):
  def __init__(self, classes=7):
    super().__init__()
    relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
    self.features = nn.Sequential(
      *(nn.Conv2d(3, 64, 11, 4, 2), relu, pool, nn.Conv2d(64, 192, 5, padding=2), relu, pool),
      *(nn.Conv2d(192, 384, 3, padding=1), relu, nn.Conv2d(384, 256, 3, padding=1), relu),
      *(nn.Conv2d(256, 256, 3, padding=1), relu, pool),
    )
    self.classifier = nn.Sequential(
      *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), relu, nn.Dropout()),
      *(nn.Linear(4096, 4096), relu, nn.Linear(4096, classes)),
    )

  def forward(self, x):
    return self.classifier(self.features(x).flatten(1))


def randomise(module, seed=0):
  """Gives every parameter and running statistic a value of its own; returns it for evaluation."""
  torch.manual_seed(seed)
  for name, x in module.state_dict().items():
    if name.endswith('running_var') or (x.ndim == 1 and name.endswith('weight')):
      x.uniform_(0.5, 1.5)
    elif x.is_floating_point():
      x.normal_(std=(2 / x[0].numel()) ** 0.5 if x.ndim > 1 else 0.1)
  return module.eval()
