"""What other programs show of a run: curves, images, texts and the config."""

import json
import sys
import types

import pytest
from PIL import Image

from tests.train.logging.test_samples import image
from train import config as config_lib
from train import verbs
from train.errors import UserError
from train.logging.metrics import MetricLog
from train.logging.tensorboard import TensorBoard

FILES = {'grid.png': image(0.5), 'sample.txt': 'One *two*\n<b>é'.encode()}


def write(workdir, *writers):
  config = {'model.name': 'lenet', 'optimizer.learning_rate': 0.1, 'model.channels': (6, 16)}
  config['data.data_dir'] = 'caf\udce9'  # a name that is not UTF-8
  workdir.mkdir(exist_ok=True)
  log = MetricLog(str(workdir), writers=writers, config=config)
  log.restore(None, 0)
  log.write(3, {'test/error': 0.25})
  log.show(3, FILES)
  log.close()


def test_tensorboard_reads_images_texts_and_hyperparameters(tmp_path):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
  from tensorboard.plugins.hparams import metadata

  write(tmp_path, TensorBoard)
  events = EventAccumulator(str(tmp_path)).Reload()
  (point,) = events.Scalars('test/error')
  assert (point.step, point.value) == (3, 0.25)
  (picture,) = events.Images('grid')
  assert (picture.step, picture.width, picture.height) == (3, 4, 4)
  assert picture.encoded_image_string == FILES['grid.png']
  (text,) = events.Tensors('sample')
  assert text.tensor_proto.string_val == ['    One *two*\n    <b>é'.encode()]
  about = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
  values = metadata.parse_session_start_info_plugin_data(about).hparams
  assert values['optimizer.learning_rate'].number_value == 0.1
  assert values['model.channels'].string_value == '(6, 16)'


class Project(types.ModuleType):
  """The few names of the package `wandb` that are used."""

  def __init__(self):
    super().__init__('wandb')
    self.started, self.logged, self.finished = [], [], 0

  def init(self, **how):
    self.started.append(how)
    return self

  def log(self, values, step):
    self.logged.append((step, values))

  def finish(self):
    self.finished += 1

  Image = staticmethod(lambda image: image)
  Html = staticmethod(lambda text: text)


@pytest.fixture
def wandb(monkeypatch):
  package = Project()
  monkeypatch.setitem(sys.modules, 'wandb', package)
  return package


def test_weights_and_biases_gets_the_same(tmp_path, wandb):
  write(tmp_path / 'run', *verbs.writers({'wandb': 'digits'}))
  (step, error), (_, files) = wandb.logged
  assert (step, error) == (3, {'test/error': 0.25})
  assert isinstance(files['grid'], Image.Image) and files['grid'].size == (4, 4)
  assert files['sample'] == '<pre>One *two*\n&lt;b&gt;é</pre>'
  (how,) = wandb.started
  assert (how['project'], how['name'], how['resume']) == ('digits', 'run', 'allow')
  assert how['config']['model.name'] == 'lenet'
  assert wandb.finished == 1


def test_a_resumed_run_goes_on_in_the_same_charts(tmp_path, wandb):
  for _ in range(2):
    write(tmp_path, *verbs.writers({'wandb': 'digits'}))
  first, second = wandb.started
  assert first['id'] == second['id']


def test_a_service_that_refuses_is_told_in_one_line(tmp_path, wandb, monkeypatch):
  def init(**how):
    raise RuntimeError('api_key not configured\n(no-tty)')

  monkeypatch.setattr(wandb, 'init', init)
  with pytest.raises(UserError, match=r"wandb='digits': api_key not configured \(no-tty\)"):
    write(tmp_path, *verbs.writers({'wandb': 'digits'}))


def test_without_the_package_nothing_is_begun(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  config = config_lib.load('configs/lenet_digits.py')
  with pytest.raises(UserError, match='wandb: its package is not installed; `pip install wandb`'):
    verbs.train(verbs.complete_config({**config, 'wandb': 'digits'}), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.long
@pytest.mark.usefixtures('one_device')
def test_a_run_says_its_config_to_both(tmp_path, wandb):
  config = config_lib.load('configs/lenet_digits.py')
  config['train'] |= {'steps': 2, 'log_every': 1}
  verbs.train(verbs.complete_config({**config, 'wandb': 'digits'}), str(tmp_path))
  assert wandb.started[0]['config']['optimizer.learning_rate'] == 0.05
  assert [step for step, values in wandb.logged if 'train/loss' in values] == [1, 2]
  assert json.loads((tmp_path / 'config.json').read_text())['wandb'] == 'digits'
