"""Public classifiers as run folders: evaluated with their crop, fine-tuned with a new head."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from train import convert, verbs
from train.convert import vision
from train.errors import UserError

torch = pytest.importorskip('torch')

from tests.models.weights import torch_networks as theirs  # noqa: E402

pytestmark = pytest.mark.usefixtures('one_device')
RESNET18 = (2, 2, 2, 2), False


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """torchvision's ResNet-18 with seven classes: the module, and its file."""
  module = theirs.randomise(theirs.ResNet(*RESNET18))
  path = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
  torch.save(module.state_dict(), path)
  return module, path


def folder_of_images(root, classes, splits=('train', 'val'), count=2):
  draw = np.random.default_rng(0)
  for split in splits:
    for name in classes:
      (root / split / name).mkdir(parents=True)
      for i in range(count):
        pixels = draw.integers(0, 256, (230, 260, 3), np.uint8)
        Image.fromarray(pixels).save(root / split / name / f'{i}.png')
  return str(root)


def changed(weights, tmp_path, change):
  """A file of the same tensors after `change(state)`."""
  state = weights[0].state_dict()
  change(state)
  torch.save(state, tmp_path / 'changed.pth')
  return str(tmp_path / 'changed.pth')


def config_of(workdir, **changes):
  config = verbs.read_config(workdir)
  for key, value in changes.items():
    section, name = key.split('__')
    config[section][name] = value
  return verbs.complete_config(config)


@pytest.mark.long
def test_a_resnet_is_evaluated_as_torchvision_does(weights, tmp_path, capsys):
  """Resize to 256, crop 224, mean and standard deviation: errors of the same scores."""
  module, path = weights
  workdir = str(tmp_path / 'run')
  convert.import_weights(str(path), workdir)
  assert 'resnet18 of 7 classes, unknown' in capsys.readouterr().out
  names = [f'class{i}' for i in range(7)]
  data = folder_of_images(tmp_path / 'data', names, splits=['val'])
  overrides = {'data.data_dir': data, 'data.eval_batch_size': '2'}
  evaluated = verbs.evaluate([workdir], overrides=overrides)
  wrong = 0
  for label, name in enumerate(names):
    for file in (tmp_path / 'data' / 'val' / name).iterdir():
      image = Image.open(file).resize((round(260 * 256 / 230), 256), Image.Resampling.BILINEAR)
      left, top = (image.width - 224) // 2, 16
      x = np.asarray(image.crop((left, top, left + 224, top + 224)), 'f4') / 255
      x = (x - np.float32(vision.INPUTS['mean'])) / np.float32(vision.INPUTS['std'])
      with torch.no_grad():
        scores = module(torch.tensor(x).permute(2, 0, 1)[None])
      wrong += int(scores.argmax()) != label
  assert wrong > 0 and evaluated['metrics']['test/error'] == pytest.approx(wrong / 14)


@pytest.mark.long
def test_a_new_head_on_another_set(weights, tmp_path, capsys):
  workdir, tuned = str(tmp_path / 'run'), str(tmp_path / 'tuned')
  convert.import_weights(str(weights[1]), workdir)
  data = folder_of_images(tmp_path / 'data', ['cat', 'dog'])
  changes = {'data__data_dir': data, 'data__batch_size': 2, 'train__steps': 1}
  changes |= dict.fromkeys(('data__decode_train', 'data__decode_eval'), 'resize(64)')
  config = config_of(workdir, optimizer__warmup_steps=0, **changes)
  verbs.train({**config, 'init_from': workdir}, tuned)
  said = capsys.readouterr().err
  assert 'fresh: params/full/bias, params/full/kernel' in said
  assert verbs.load_run(tuned).task.meaning()['classes'] == ['cat', 'dog']


@pytest.mark.long
def test_imagenet_has_its_classes_in_their_order(tmp_path, capsys):
  """A folder of a part of them is evaluated, each class with its own number."""
  module = theirs.ResNet(*RESNET18, classes=1000)
  torch.save(module.state_dict(), tmp_path / 'resnet18.pth')
  workdir = str(tmp_path / 'run')
  convert.import_weights(str(tmp_path / 'resnet18.pth'), workdir)
  assert 'resnet18 of 1000 classes, ImageNet' in capsys.readouterr().out
  data = folder_of_images(tmp_path / 'data', ['n01443537', 'n15075141'], splits=['val'])
  overrides = {'data.data_dir': data, 'data.decode_eval': 'resize(64)'}
  run = verbs.load_run(workdir, overrides=overrides)
  assert len(run.task.data.classes) == 1000
  assert run.task.data.classes.index('n15075141') == 999
  overrides['data.eval_batch_size'] = '4'
  metrics = verbs.evaluate([workdir], overrides=overrides)['metrics']
  assert set(metrics) == {'test/error', 'test/error_top5'}


def test_what_timm_and_transformers_say_of_their_images(tmp_path):
  def inputs(config=None, preprocessor=None):
    for name, content in (('config', config), ('preprocessor_config', preprocessor)):
      (tmp_path / f'{name}.json').write_text(json.dumps(content or {}))
    return vision.inputs_of(vision.Files(tmp_path))

  assert inputs() == vision.INPUTS
  said = {'mean': [0.5] * 3, 'std': [0.25] * 3, 'input_size': [3, 176, 176], 'crop_pct': 0.95}
  said |= {'test_input_size': [3, 288, 288], 'test_crop_pct': 1.0, 'interpolation': 'bicubic'}
  found = inputs({'pretrained_cfg': said})
  assert found['mean'] == (0.5,) * 3 and found['size'] == 288 and found['crop_pct'] == 1
  model = {'name': 'resnet50'}
  data = vision.config_of(model, found)['data']
  assert data['decode_eval'] == 'resize_shorter(288, bicubic=True)|center_crop(288)'
  found = inputs({}, {'image_mean': [0.4] * 3, 'size': {'shortest_edge': 224}, 'resample': 3})
  assert found['mean'] == (0.4,) * 3 and found['interpolation'] == 'bicubic'
  for wrong in ({'size': 'x'}, {'crop_pct': 7}, {'image_std': [1]}, {'resample': 99}):
    with pytest.raises(ValueError, match='which is not supported'):
      inputs({}, wrong)


def test_names_of_classes_are_taken_from_the_config(tmp_path):
  def classes(labels, count):
    (tmp_path / 'config.json').write_text(json.dumps({'id2label': labels}))
    return vision.classes_of(vision.Files(tmp_path), count)

  assert classes({'0': 'cat', '1': 'dog'}, 2) == ['cat', 'dog']
  assert classes({'0': 'LABEL_0', '1': 'LABEL_1'}, 2) == []
  assert classes({'0': 'cat', '1': 'cat'}, 2) == [] == classes({'0': 'cat'}, 2) == classes(7, 2)
  assert len(classes({str(i): f'tench {i}' for i in range(1000)}, 1000)) == 1000
  assert classes({str(i): f'bird {i}' for i in range(1000)}, 1000)[1] == 'bird 1'
  assert classes({}, 1000)[0] == 'n01440764'


# -------- what is wrong --------


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda state: state.pop('bn1.bias'), 'lacks bn1.bias of a resnet18'),
    (lambda state: state.update({'bn1.more': torch.ones(1)}), 'holds bn1.more, which a resnet18'),
    (lambda state: state.update({'fc.bias': torch.ones(9)}), r'fc.bias is of shape \(9,\)'),
    (lambda state: state.update({'fc.bias': torch.ones(7).int()}), 'fc.bias is of type I32'),
    (lambda state: state.update({'fc.bias': torch.full((7,), np.nan)}), 'not finite: params/full'),
    (lambda state: state.pop('fc.weight'), 'has no classifier fc.weight; a backbone alone'),
    (lambda state: state.pop('layer4.1.conv1.weight'), 'layer4.1.conv1.weight'),
    (
      lambda state: [state.pop(name) for name in list(state) if name.startswith('layer4.1')],
      r'stages of \(2, 2, 2, 1\) blocks of two convolutions; choose from resnet18',
    ),
    (
      lambda state: [state.update({f'x.{name}': state.pop(name)}) for name in list(state)],
      'holds tensors such as x.conv1.weight, .* none of the formats that are read: .*gpt2',
    ),
  ],
)
def test_other_tensors_are_one_line(change, message, weights, tmp_path):
  path = changed(weights, tmp_path, change)
  with pytest.raises(UserError, match=message) as caught:
    convert.import_weights(path, str(tmp_path / 'run'))
  assert '\n' not in str(caught.value) and path in str(caught.value)
  assert not (tmp_path / 'run').exists()


def test_the_format_that_is_named(weights, tmp_path):
  with pytest.raises(
    UserError, match=r'--format=resnet: no such format; choose from .*resnet_torchvision'
  ):
    convert.import_weights(str(weights[1]), str(tmp_path / 'run'), 'resnet')
  with pytest.raises(UserError, match=r'has no classifier classifier\.6\.weight'):
    convert.import_weights(str(weights[1]), str(tmp_path / 'run'), 'alexnet_torchvision')


def test_several_files_of_weights_are_told(weights, tmp_path):
  for name in 'ab':
    shutil.copy(weights[1], tmp_path / f'{name}.pth')
  with pytest.raises(UserError, match=r'holds 2 files of weights, a.pth, b.pth; give one of them'):
    convert.import_weights(str(tmp_path), str(tmp_path / 'run'))


def test_weights_that_are_to_be_converted_first_are_told(weights, tmp_path):
  config = verbs.complete_config(vision.config_of({'name': 'resnet18'}, vision.INPUTS))
  data = folder_of_images(tmp_path / 'data', ['cat', 'dog'])
  config['data']['data_dir'] = data
  config['init_from'] = str(weights[1])
  with pytest.raises(UserError, match=r'public weights; `launch.py convert --from=.*resnet18.pth'):
    verbs.train(config, str(tmp_path / 'run'))
