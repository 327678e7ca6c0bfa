"""A run goes on with what means the same, and with nothing else unless told."""

import json

import pytest

from train import config as config_lib
from train import verbs
from train.compatibility import changed_data, check_data, check_overrides, check_same
from train.errors import UserError
from train.task import Task
from train.workdir import write_json


def completed(name='lenet_digits', **overrides):
  config = config_lib.load(f'configs/{name}.py')
  for key, text in overrides.items():
    config = config_lib.override(config, key.replace('__', '.'), text)
  return verbs.complete_config(config)


@pytest.fixture
def run(tmp_path):
  def of(config):
    write_json(str(tmp_path / 'config.json'), config)
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True, exist_ok=True)
    return str(tmp_path)

  return of


FREE = {
  'data__data_dir': '/moved/there',
  'data__workers': '3',
  'data__prefetch': '5',
  'data__in_memory': 'no',
  'data__eval_batch_size': '7',
  'data__eval_split': 'test[:50%]',
  'data__decode_eval': 'resize(28)',
  'train__eval_every': '17',
  'train__checkpoint_every': '19',
  'train__log_every': '3',
  'train__keep': '4',
  'train__best': 'test/loss',
  'train__best_mode': 'max',
  'task__view': 'ten_crop(size=24)',
  'mesh__fsdp': '2',
  'parallel': 'pmap',
  'train__accumulate': '2',
  'paper__note': 'another',
}


@pytest.mark.parametrize('key', FREE)
def test_what_means_nothing_may_differ(run, key):
  check_same(completed(**{key: FREE[key]}), run(completed()))


@pytest.mark.parametrize(
  ('name', 'key'),
  [('gpt_python_cpu', 'model.remat=block'), ('gpt_python_cpu', 'model.scan=true')],
)
def test_how_a_model_runs_may_differ(run, name, key):
  path, _, text = key.partition('=')
  check_same(completed(name, **{path.replace('.', '__'): text}), run(completed(name)))


@pytest.mark.parametrize(
  ('key', 'text'),
  [
    ('data__batch_size', '32'),
    ('data__train_split', 'train[:50%]'),
    ('data__dataset', 'mnist'),
    ('optimizer__learning_rate', '0.5'),
    ('train__ema_decay', '0.5'),
    ('task__label_smoothing', '0.1'),
    ('model__channels', '(6, 12)'),
    ('seed', '1'),
  ],
)
def test_what_is_computed_may_not(run, key, text):
  with pytest.raises(UserError, match=rf'^{key.replace("__", ".")}=.*: .* was made with '):
    check_same(completed(**{key: text}), run(completed()))


@pytest.mark.parametrize('schedule', ['constant', 'piecewise', 'rsqrt'])
def test_a_run_may_be_longer_where_the_schedule_does_not_end(run, schedule):
  before = completed(optimizer__schedule=schedule)
  check_same(completed(optimizer__schedule=schedule, train__steps='9999'), run(before))


@pytest.mark.parametrize('schedule', ['cosine', 'linear'])
def test_a_schedule_that_ends_says_why_the_run_may_not_be_longer(run, schedule):
  before = completed(optimizer__schedule=schedule)
  with pytest.raises(
    UserError, match=rf"train.steps=9999: .* 1500, where its schedule '{schedule}'"
  ):
    check_same(completed(optimizer__schedule=schedule, train__steps='9999'), run(before))


def test_a_key_that_only_begins_like_a_free_one_is_not_free(run):
  """The attention of GPT is a kernel, attention_resolutions of a U-Net are a part of it."""
  before = completed('diffusion_digits')
  changed = completed('diffusion_digits', model__attention_resolutions='(2,)')
  with pytest.raises(UserError, match='attention_resolutions'):
    check_overrides(before, changed, run(before))
  with pytest.raises(UserError, match='attention_resolutions'):
    check_same(changed, run(before))


# -------- the data --------


class Reads(Task):
  def __init__(self, **fingerprints):
    self._fingerprints = fingerprints

  def fingerprints(self):
    return self._fingerprints


def test_a_text_may_move_where_its_contents_are_known(run, tmp_path):
  before = completed('gpt_python_cpu', data__dataset='/here/a.txt')
  workdir, moved = run(before), completed('gpt_python_cpu', data__dataset='/there/a.txt')
  with pytest.raises(UserError, match=r"data.dataset='/there/a.txt'"):
    check_same(moved, workdir)  # an older run, of which nothing is known
  write_json(str(tmp_path / 'fingerprints.json'), {'train': '12ab'})
  check_same(moved, workdir)


def test_other_data_are_refused_unless_told(tmp_path, capsys):
  write_json(str(tmp_path / 'fingerprints.json'), {'train': '12ab', 'test': '34cd'})
  same, other = Reads(train='12ab', test='34cd'), Reads(train='56ef', test='34cd')
  check_data(same, str(tmp_path), 5, new_data=False)
  with pytest.raises(UserError, match=r'trained to step 5 \(split train\); --new_data goes on'):
    check_data(other, str(tmp_path), 5, new_data=False)
  assert capsys.readouterr().err == ''
  check_data(other, str(tmp_path), 5, new_data=True)
  assert 'other data from step 5 on: train' in capsys.readouterr().err
  check_data(other, str(tmp_path), 0, new_data=False)  # nothing was trained on the others


def test_what_was_not_read_or_not_kept_is_not_compared(tmp_path):
  assert changed_data(Reads(train='12ab'), str(tmp_path)) == []
  write_json(str(tmp_path / 'fingerprints.json'), {'train': '12ab'})
  assert changed_data(Reads(test='34cd'), str(tmp_path)) == []
  assert changed_data(Reads(), str(tmp_path)) == []


TEXTS = ['abcdef \n' * 400, 'fedcba \n' * 400]


@pytest.mark.long
def test_a_text_that_was_replaced_is_said_on_resume_and_evaluation(tmp_path, capsys, one_device):
  text, workdir = tmp_path / 'text.txt', str(tmp_path / 'run')
  small = dict(
    data__dataset=str(text),
    data__eval_split='validation',
    data__block_size='16',
    data__eval_batch_size='4',
    data__tokenizer='characters',
    model__width='24',
    model__block_size='16',
    optimizer__schedule='constant',
    task__sample_tokens='0',
    task__prompt='',
  )
  text.write_text(TEXTS[0])
  verbs.train(completed('gpt_python_cpu', **small, train__steps='2'), workdir)
  longer = completed('gpt_python_cpu', **small, train__steps='3')
  text.write_text(TEXTS[1])
  with pytest.raises(UserError, match='the data have changed since it was trained to step 2'):
    verbs.train(longer, workdir)
  result = verbs.evaluate([workdir])
  assert 'the data have changed since it was trained (split validation)' in capsys.readouterr().err
  assert json.loads((tmp_path / 'run' / 'eval.json').read_text())['other_data'] == ['validation']
  text.write_text(TEXTS[0])
  assert 'other_data' not in verbs.evaluate([workdir])
  text.write_text(TEXTS[1])
  verbs.train(longer, workdir, new_data=True)
  assert 'other data from step 2 on: train, validation' in capsys.readouterr().err
  verbs.train(longer, workdir)  # which are its own now
  assert result['step'] == 2
