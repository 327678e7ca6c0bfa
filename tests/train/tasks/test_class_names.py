"""What the scores of a classifier mean is kept with the run: class names, matched by name."""

import jax
import numpy as np
import pytest

from data.images import datasets, records
from tests.train.toy import Toy
from train import mesh as mesh_lib
from train import sections, verbs
from train.compatibility import same_model
from train.errors import UserError

NAMES = ('bee', 'cow', 'dog')
SHADES = {'bee': 20, 'cow': 120, 'dog': 220, 'zbee': 20}


def arrays(names):
  """Returns a set of grey images, ten of each class, with these names in this order."""
  labels = np.repeat(np.arange(len(names)), 10)
  values = np.array([SHADES[name] for name in names])[labels]
  images = np.broadcast_to(values[:, None, None, None], (len(labels), 8, 8, 1)).astype(np.uint8)
  split = records.from_arrays('shades', images, labels, names)
  return {'train': split, 'test': split}


def config(name='shades', model='lenet', **data):
  small = {'channels': (2, 4), 'hidden': (32, 16)} if model == 'lenet' else {}
  return verbs.complete_config(
    {
      'task': {'name': 'classify', 'mean': 0.5, 'std': 0.3},
      'model': {'name': model, **small},
      'data': {'name': 'images', 'dataset': name, 'batch_size': 10, **data},
      'optimizer': {'name': 'adam', 'learning_rate': 0.01},
      'train': {'steps': 100},
      'mesh': {'data': 1},
    }
  )


@pytest.fixture(scope='module', autouse=True)
def sets():
  others = {
    'shades': NAMES,
    'turned': ('dog', 'bee', 'cow'),
    'two': ('dog', 'cow'),
    'renamed': ('cow', 'dog', 'zbee'),
  }
  with pytest.MonkeyPatch.context() as patch:
    for name, names in others.items():
      patch.setitem(datasets.DATASETS, name, lambda data_dir, names=names: arrays(names))
    devices = jax.devices()[:1]
    patch.setattr(jax, 'devices', lambda *_: devices)
    yield


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('run'))
  verbs.train(config(), workdir)
  return workdir


def evaluate(run, name):
  return verbs.evaluate([run], overrides={'data.dataset': name})


@pytest.mark.long
def test_a_test_set_with_its_classes_in_another_order_or_fewer_is_evaluated_by_name(run):
  found = evaluate(run, 'shades')
  assert found['metrics']['test/error'] == 0 and found['confusion'] == np.diag([10] * 3).tolist()
  turned = evaluate(run, 'turned')
  assert turned['classes'] == list(NAMES) and turned['confusion'] == found['confusion']
  assert evaluate(run, 'two')['confusion'] == np.diag([0, 10, 10]).tolist()


@pytest.mark.long
def test_a_class_of_another_name_is_refused_in_evaluation_and_on_resume(run):
  message = r"1 of its 3 classes, such as 'zbee', are none of those .* trained on: bee, cow, dog"
  with pytest.raises(UserError, match=message):
    evaluate(run, 'renamed')
  with pytest.raises(UserError, match=message):
    sections.build_task(config('renamed'), run)
  fewer = sections.build_task(config('two'), run)
  with pytest.raises(UserError, match=r"lacks 1 of the 3 classes .*, such as 'bee'"):
    fewer.source('train', mesh_lib.make_mesh(), 0)


@pytest.mark.long
def test_an_ensemble_sees_images_through_the_models_and_inputs_of_each(run, tmp_path):
  other = str(tmp_path / 'lenet5')
  verbs.train(config(model='lenet5', decode_train='resize(6)', decode_eval='resize(6)'), other)
  found = verbs.evaluate([run, other])
  assert found['metrics'] == verbs.evaluate([other, run])['metrics']
  assert np.sum(found['confusion']) == 30
  two = str(tmp_path / 'two')
  verbs.train(config('two'), two)
  with pytest.raises(UserError, match=r'an ensemble of classes .*bee.* and .*: must be the same'):
    verbs.evaluate([run, two])


def test_other_tasks_average_the_predictions_of_one_model():
  ours, theirs = ({'model': {'name': 'gpt', 'layers': n, 'remat': 'none'}} for n in (2, 3))
  assert not same_model(ours, theirs)
  assert same_model(ours, {'model': {**ours['model'], 'remat': 'block'}})  # how it is run
  Toy().join([Toy()], same_model=True)
  with pytest.raises(UserError, match='2 workdirs: their models differ'):
    Toy().join([Toy()], same_model=False)
