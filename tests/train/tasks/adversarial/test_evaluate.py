"""The verb eval of the task `gan`: distances and the Parzen estimate."""

import numpy as np
import pytest

from models.gan import parzen
from tests.train.tasks.adversarial import small_gan as small
from train.errors import UserError
from train.tasks import reading
from train.tasks.adversarial import evaluate

SPLITS = {'train_split': 'train[:1200]', 'eval_split': 'train[1200:]'}


@pytest.fixture(scope='module')
def run():
  made = small.task(of=small.data(**SPLITS))
  return made, small.variables(made, scale=3), small.mesh_of()


def examine(run, **options):
  made, variables, mesh = run
  return made.examine([variables], mesh, **options)


class Memory:
  """A task that draws the training images themselves."""

  conditional, sampling = False, evaluate.DrawingOptions()

  def __init__(self, made, mesh):
    self.data, self.mesh = made.data, mesh

  def images(self, variables, keys, labels, mesh):
    count = self.data.num_examples(self.data.train_split)
    rows = np.arange(len(keys)) % count
    return reading.images(self.data, self.data.train_split, self.mesh, rows)


def test_without_options_it_measures_the_losses_and_says_what_else_there_is(run, capsys):
  metrics, _, _ = examine(run)
  assert set(metrics) == set(run[0].metrics)
  assert '--parzen=test for the Parzen estimate' in capsys.readouterr().out


def test_distances_are_those_of_diffusion_with_their_floor(run):
  metrics, metadata, _ = examine(run, samples=60)
  assert {'FD-pixels', 'KD-pixels', 'precision-pixels', 'recall-pixels'} <= set(metrics)
  measured = metadata['quality-pixels']
  assert metrics['FD-pixels'] > 3 * measured['floor']['FD-pixels'] > 0
  assert measured['samples'] == 60 and measured['statistics_batch'] == 32


@pytest.mark.long
def test_who_draws_training_images_has_the_parzen_estimate_of_training_images(run, capsys):
  """The sanity line of the paper's measure, at which a copy of the training set stands."""
  task = Memory(run[0], run[2])
  metrics, metadata = evaluate.GanEvaluator(task, {}, run[2]).parzen('test')
  theirs = metadata['parzen']['parzen_of_training_images']
  assert metrics['parzen'] == pytest.approx(theirs['value'], abs=1)
  assert metrics['parzen_sigma'] in parzen.SIGMAS and metadata['parzen']['images'] == 360
  assert metadata['parzen']['sigma_chosen_by'] == SPLITS['eval_split']
  said = capsys.readouterr().out
  assert said.startswith('Parzen estimate of test (historic: see docs/gan.md), in nats: ')
  assert '1200 training images' in said


@pytest.mark.long
def test_an_untrained_generator_is_far_below(run):
  metrics, metadata, _ = examine(run, parzen='test')
  theirs = metadata['parzen']['parzen_of_training_images']['value']
  assert metrics['parzen'] < theirs - 20


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'samples': 5}, '--samples=5: must be at least 20'),
    ({'parzen': 'train[1200:]'}, r'--parzen=train\[1200:\]: sigma is chosen on data.eval_split, '),
    ({'parzen': 'tset'}, "split 'tset'"),
    ({'classifier': '/nowhere'}, '/nowhere'),
  ],
)
def test_a_mistake_is_named(run, options, words):
  with pytest.raises(UserError, match=words):
    examine(run, **options)


def test_several_runs_are_refused(run):
  made, variables, mesh = run
  with pytest.raises(UserError, match='2 workdirs: adversarial networks are evaluated one by one'):
    made.examine([variables, variables], mesh)
