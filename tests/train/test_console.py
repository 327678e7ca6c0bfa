"""What a training says at its start and its end, and how a finished run goes on."""

import jax
import numpy as np
import pytest

from data.go.source import GoGames
from data.images.source import ImageData
from data.selfplay import SelfPlayData
from data.text.source import TextData
from tests.train.test_warm_start import DIGITS
from train import console, verbs
from train.errors import UserError
from train.tasks import DECLARATIONS

STEPS = {'steps': 2, 'log_every': 1}


def config_of(**optimizer):
  section = {'name': 'sgd', 'learning_rate': 0.01, **optimizer}
  return verbs.complete_config({**DIGITS, 'optimizer': section, 'train': STEPS})


def longer(config, steps=4):
  return {**config, 'train': {**config['train'], 'steps': steps}}


@pytest.mark.long
@pytest.mark.usefixtures('one_device')
def test_a_run_says_what_is_trained_and_what_to_do_next(tmp_path, capsys):
  folder = str(tmp_path / 'my run')
  verbs.train(config_of(), folder)
  where, data, device, steps, *_, following, evaluate, report = capsys.readouterr().err.splitlines()
  assert where == f'{folder}: classify, lenet of 1,188 parameters'
  assert data == (
    'data: digits, 1,437 images to train on, 360 to evaluate, of 10 classes, 28 x 28 x 1'
  )
  assert device.startswith('device: ') and ' cores; convolutions: ' in device
  assert steps == 'steps: 2, each of 32 images'
  assert following == 'next:'
  assert evaluate == f"  python launch.py eval --workdir='{folder}'"
  assert report == f"  python launch.py report --workdir='{folder}'"
  verbs.train(config_of(), folder)
  said = capsys.readouterr().err.splitlines()
  assert said[3] == (
    f"already at step 2 of 2; to train it longer: --workdir='{folder}' --config.train.steps=4;"
    f" another run: --workdir='{folder}-2'"
  )
  verbs.train(longer(config_of()), folder)
  assert 'steps: resumed at step 2 of 4, each of 32 images' in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.usefixtures('one_device')
@pytest.mark.parametrize(
  'schedule', [{}, {'schedule': 'piecewise', 'milestones': (1, 3)}, {'schedule': 'rsqrt'}]
)
def test_a_finished_run_trained_longer_is_the_longer_run(schedule, tmp_path):
  config = config_of(**schedule)
  verbs.train(config, str(tmp_path / 'parts'))
  verbs.train(longer(config), str(tmp_path / 'parts'))
  verbs.train(longer(config), str(tmp_path / 'whole'))
  parts, whole = (verbs.load_run(str(tmp_path / x)).variables for x in ('parts', 'whole'))
  jax.tree.map(np.testing.assert_array_equal, parts, whole)


@pytest.mark.long
@pytest.mark.usefixtures('one_device')
@pytest.mark.parametrize('schedule', ['cosine', 'linear'])
def test_a_schedule_that_ended_is_said_and_how_to_go_on(schedule, tmp_path, capsys):
  config, folder = config_of(schedule=schedule), str(tmp_path / 'run')
  verbs.train(config, folder)
  capsys.readouterr()
  verbs.train(config, folder)
  said = capsys.readouterr().err
  begin = f'--config={folder}/config.json --workdir={folder}-2 --init_from={folder};'
  assert f"already at step 2 of 2; its schedule '{schedule}' ended there; " in said
  assert begin in said
  with pytest.raises(
    UserError, match=f'train.steps=4: .* --workdir={folder}-2 --init_from={folder}'
  ):
    verbs.train(longer(config), folder)
  with pytest.raises(UserError, match=f'seed=1: .* another folder: --workdir={folder}-2$'):
    verbs.train({**config, 'seed': 1}, folder)


def test_data_describe_themselves(tmp_path):
  (tmp_path / 'text.txt').write_text('to be or not to be\n' * 100)
  text = TextData(str(tmp_path / 'text.txt'), tokenizer='characters', block_size=8)
  assert text.describe() == (
    f'{tmp_path}/text.txt, 1,710 tokens to train on, 190 to evaluate,'
    ' characters of a vocabulary of 8'
  )
  text.close()
  games = [f'(;SZ[5]RE[B+1];B[{x}{y}];W[cc])' for x in 'abde' for y in 'abde']
  (tmp_path / 'games.txt').write_text('\n'.join(games))
  found = GoGames(str(tmp_path / 'games.txt'), size=5, test_fraction=0.5)
  train, test = (len(found.split(name).lengths) for name in ('train', 'test'))
  assert f'{train} games of {2 * train} positions to train on, {test} games' in found.describe()
  assert ImageData().describe().startswith('digits, 1,437 images to train on')
  assert SelfPlayData().describe() == 'games that the network plays while it trains'


SAMPLED = 'language', 'diffusion', 'consistency', 'gan', 'belief', 'dqn', 'words'


@pytest.mark.parametrize('name', DECLARATIONS)
def test_the_next_commands_are_those_that_the_task_supports(name):
  config = {'task': {'name': name}}
  verbs_named = {line.split()[2] for line in console.next_commands(config, 'runs/a')[1:]}
  assert {'eval', 'report'} <= verbs_named
  assert ('sample' in verbs_named) == (name in SAMPLED)
  assert ('play' in verbs_named) == (name.startswith('go_') or name == 'selfplay')
