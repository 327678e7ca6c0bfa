"""ResNet and AlexNet of PyTorch's libraries compute the same here, layer by layer."""

import pytest

from models.weights import alexnet, resnet
from models.weights.files import Files

torch = pytest.importorskip('torch')

from tests.models.weights import layers  # noqa: E402
from tests.models.weights import torch_networks as theirs  # noqa: E402

STAGES = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}


def save(module, tmp_path, name='weights.pth'):
  torch.save(module.state_dict(), tmp_path / name)
  return Files(tmp_path / name)


@pytest.mark.long
@pytest.mark.parametrize('depth', [18, 34, 50])
def test_a_resnet_of_torchvision(depth, tmp_path):
  module = theirs.randomise(theirs.ResNet(*STAGES[depth]))
  files = save(module, tmp_path)
  assert resnet.is_torchvision(files) and not resnet.is_transformers(files)
  network = resnet.from_torchvision(files)
  assert network.section == {'name': f'resnet{depth}'} and network.num_classes == 7
  x = layers.images()
  ours, wanted = layers.ours(network, x), layers.theirs(module, x)
  layers.close(ours[''], wanted[''])
  layers.close(ours['stem'], wanted['conv1'])
  layers.close(ours['stem_pool'], wanted['pool'])
  for stage, blocks in enumerate(STAGES[depth][0], 1):
    for block in range(blocks):
      layers.close(ours[f'stage{stage}_block{block + 1}'], wanted[f'layer{stage}.{block}'])


@pytest.mark.long
@pytest.mark.parametrize('v1', [False, True])
@pytest.mark.parametrize('kind', ['basic', 'bottleneck'])
def test_a_resnet_of_transformers(kind, v1, tmp_path):
  transformers = pytest.importorskip('transformers')
  sizes = {
    'basic': {'hidden_sizes': [64, 128, 256, 512], 'depths': [2, 2, 2, 2]},
    'bottleneck': {'hidden_sizes': [256, 512, 1024, 2048], 'depths': [3, 4, 6, 3]},
  }
  config = transformers.ResNetConfig(
    **sizes[kind], layer_type=kind, num_labels=5, downsample_in_bottleneck=v1
  )
  module = theirs.randomise(transformers.ResNetForImageClassification(config))
  module.save_pretrained(tmp_path)
  files = Files(tmp_path)
  assert resnet.is_transformers(files) and not resnet.is_torchvision(files)
  network = resnet.from_transformers(files)
  assert network.section.get('version') == ('v1' if v1 else None)
  x = layers.images()
  ours, wanted = layers.ours(network, x), layers.theirs(module, x)
  layers.close(ours[''], wanted['classifier'])
  for stage, blocks in enumerate(config.depths, 1):
    for block in range(blocks):
      name = f'resnet.encoder.stages.{stage - 1}.layers.{block}'
      layers.close(ours[f'stage{stage}_block{block + 1}'], wanted[name])


@pytest.mark.long
def test_alexnet_of_torchvision(tmp_path):
  module = theirs.randomise(theirs.AlexNet())
  files = save(module, tmp_path)
  assert alexnet.recognises(files)
  network = alexnet.read(files)
  x = layers.images(224)
  ours, wanted = layers.ours(network, x), layers.theirs(module, x)
  layers.close(ours[''], wanted[''])
  for name, other in alexnet.LAYERS.items():
    layers.close(ours[name], wanted[other])
  assert ours['dropout6'].shape == (2, 9216)  # at the input
