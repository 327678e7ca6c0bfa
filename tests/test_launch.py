"""The command line as a user meets it: help, one-line errors, and the three verbs in a row."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from train.runtime import host

ROOT = pathlib.Path(__file__).parent.parent


def launch(*arguments, cwd=ROOT, typed='', **environment):
  return subprocess.run(
    [sys.executable, str(ROOT / 'launch.py'), *map(str, arguments)],
    cwd=cwd,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    input=typed,
  )


def error(*arguments, **environment):
  done = launch(*arguments, **environment)
  assert (done.returncode, done.stdout) == (2, ''), done
  assert done.stderr.startswith('launch.py: ')
  assert done.stderr.count('\n') == 1, done.stderr
  return done.stderr.removeprefix('launch.py: ').strip()


def test_alone_it_lists_verbs_and_configs(tmp_path):
  done = launch(cwd=tmp_path)
  assert done.returncode == 0
  lines = [line.split() for line in done.stdout.splitlines()]
  firsts = [line[0] for line in lines if line]
  assert {'train', 'eval', 'report'} <= set(firsts)
  configs = {path.stem for path in (ROOT / 'configs').glob('*.py')} - {'__init__'}
  assert configs <= set(firsts)
  assert all(len(line) > 3 for line in lines if line and line[0] in configs), 'a line for each'


def test_help_of_a_verb_imports_nothing_heavy():
  code = (
    'import sys, launch; print(launch.main(["launch.py", "train", "-h"]));'
    'print([name for name in ("jax", "numpy", "flax", "ml_collections") if name in sys.modules])'
  )
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  *text, status, loaded = done.stdout.splitlines()
  assert (status, loaded) == ('0', '[]'), done.stderr
  assert any('--[no]host_tuning' in line for line in text)
  assert not any('--step' in line for line in text), "--step is eval's"


@pytest.mark.long
@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      ['trian'],
      'trian: no such verb (did you mean train?); choose from train, compile, eval, report, ',
    ),
    (['train', '--confg=x'], '(did you mean config?)'),
    (['train', '--config=lenet_digts'], '(did you mean lenet_digits?)'),
    (['train'], '--workdir=: give --config=FILE or one --workdir=DIR'),
    (['train', '--workdir=nowhere'], 'holds no config.json; give --config=FILE'),
    (
      ['train', '--step=3'],
      '--step=3: an option of eval, sample, translate, convert, play, not of train; choose ',
    ),
    (['train', '--config.seed'], '--config.seed: needs a value, as in --config.seed=VALUE'),
    (['train', '--config=lenet_digits', '--profile=9:3'], '--profile=9:3: must be START:STOP'),
    (['train', '--process_id=one'], '--process_id=one'),
    (['train', '--config=lenet_digits', '--num_processes=2'], 'give all of --coordinator_address'),
    (['eval'], '--workdir: needs a value, the folder of a run'),
    (['eval', '--workdir=nowhere'], '--workdir=nowhere: no run there'),
    (
      ['report', '--workdir=nowhere', '--config.seed=1'],
      'only train, compile, eval, sample and translate change',
    ),
    (['sample'], '--workdir: needs a value, the folder of a run'),
    (['sample', '--workdir=nowhere'], '--workdir=nowhere: no run there'),
    (
      ['convert', '--workdir=x'],
      'convert: give one of --from=PATH, to read from, and --to_hf=DIR, --to_leelaz=FILE or',
    ),
    (['convert', '--from_hf=nowhere'], '--workdir=: needs one folder, which will be made'),
    (['convert', '--from_hf=nowhere', '--workdir=x'], 'nowhere: no such folder'),
    (['prepare'], 'prepare: give --dataset=NAME; choose from mnist, '),
    (['prepare', 'minst'], 'minst: no such data set (did you mean mnist?); choose from mnist, '),
    (['prepare', 'no/folder'], 'no/folder: no such folder; choose from mnist, '),
    (['prepare', 'mnist', '--name=x'], "--name=x: is for a folder of images, and 'mnist' is none"),
    (['prepare', 'mnist', 'cifar10'], 'cifar10: one verb at a time'),
    (['runs', '--folder=nowhere'], '--folder=nowhere: no such folder'),
    (
      ['play', '--engine=gnugo'],
      '--engine=gnugo: no such engine; choose from random, uniform, rollout',
    ),
    (
      ['play', '--game=tictacto'],
      '--game=tictacto: no such game (did you mean tictactoe?); choose',
    ),
    (['play', '--size=99'], 'size 99: rollout plays on boards of size 2 to 25'),
    (['match', '--sprt=5'], '--sprt=5: must be ELO0,ELO1'),
    (['match', '--second=gnu-go'], "player 'gnu-go': give name"),
    (['match', '--config=alphago_math'], '(did you mean alphago_match?)'),
    (
      ['match', '--config=lenet_digits'],
      'no such option of this verb; choose from config, first, ',
    ),
  ],
)
def test_mistakes_end_in_one_line(arguments, message):
  assert message in error(*arguments, BREAKTHROUGHS_STARTED_ANEW='1')


def test_a_misspelt_key_names_the_choices(tmp_path):
  message = error(
    'train', '--config=lenet_digits', f'--workdir={tmp_path / "run"}', '--config.train.stpes=3'
  )
  assert message.startswith('train.stpes=3: unknown key (did you mean steps?); choose from steps, ')
  assert not (tmp_path / 'run').exists()


@pytest.mark.long
def test_train_eval_report(tmp_path):
  """Also from another folder, and by --workdir alone when the run is resumed."""
  run = tmp_path / 'runs' / 'lenet_digits'
  small = ['--config.train.steps=4', '--config.train.log_every=2']
  done = launch('train', '--config=lenet_digits', *small, cwd=tmp_path, XLA_FLAGS='')
  assert done.returncode == 0, done.stderr
  for arguments in (['train'], ['eval', '--step=latest'], ['report']):
    done = launch(*arguments, f'--workdir={run}', cwd=tmp_path, XLA_FLAGS='')
    assert (done.returncode, 'Traceback' in done.stderr) == (0, False), done.stderr
  assert "task 'classify' does not support `sample`" in error('sample', f'--workdir={run}')
  assert '--text=x: no option of task classify' in error('eval', '--text=x', f'--workdir={run}')
  starts = json.loads((run / 'run.json').read_text())['starts']
  assert [start['step'] for start in starts] == [0, 4]
  assert starts[0]['host']['host_tuning'] is True
  assert json.loads((run / 'config.json').read_text())['train']['steps'] == 4
  assert json.loads((run / 'eval.json').read_text())['step'] == 4
  assert (run / 'report.html').exists()
  listed = launch('runs', f'--folder={run.parent}').stdout.splitlines()
  assert listed[0].split()[:4] == ['run', 'config', 'step', 'seed']
  assert listed[1].split()[1:5] == ['lenet_digits', '4/4', '0', 'test/error']


@pytest.mark.long
def test_play_answers_by_the_go_text_protocol():
  typed = '1 boardsize 5\n2 play b c3\n3 genmove w\n4 final_score\nquit\n'
  done = launch('play', '--engine=random', typed=typed)
  assert done.returncode == 0, done.stderr
  answers = done.stdout.split('\n\n')
  assert answers[:2] == ['=1', '=2'] or answers[:2] == ['=1 ', '=2 ']
  assert answers[2].startswith('=3 ')
  assert answers[3].startswith('=4 ')


@pytest.mark.long
def test_match_counts_games_and_keeps_records(tmp_path):
  """By the flags that its config has, and those of the command before them."""
  config = tmp_path / 'random.json'
  config.write_text('{"first": "random", "second": "rollout", "size": 3, "games": 40}')
  options = [f'--config={config}', '--second=random', '--games=2', f'--workdir={tmp_path}']
  done = launch('match', *options)
  assert done.returncode == 0, done.stderr
  assert 'Elo' in done.stdout
  assert json.loads((tmp_path / 'match.json').read_text())['games'] == 2
  records = [path.read_text() for path in tmp_path.rglob('*.sgf')]
  assert len(records) == 2
  assert all('SZ[3]' in text and 'rollout' not in text for text in records)


def test_a_dry_run_prints_the_whole_config_and_makes_nothing(tmp_path):
  done = launch('train', '--config=lenet_digits', '--config.seed=3', '--dry_run', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  config = json.loads(done.stdout)
  assert (config['seed'], config['data']['prefetch']) == (3, 2)
  assert list(tmp_path.iterdir()) == []


def test_another_python_finds_the_environment_beside_the_launcher(tmp_path):
  """Or says what makes it."""
  script = tmp_path / 'launch.py'
  script.write_text((ROOT / 'launch.py').read_text())
  bare = [sys.executable, '-S', str(script)]  # without site-packages
  done = subprocess.run(bare, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (
    1,
    'launch.py: its packages are not installed here; `make venv` installs them\n',
  )
  python = tmp_path / '.venv' / 'bin' / 'python'
  python.parent.mkdir(parents=True)
  python.write_text('#!/bin/sh\necho started "$2"\n')
  python.chmod(0o755)
  done = subprocess.run([*bare, 'train'], capture_output=True, text=True)
  assert done.stdout == 'started train\n', done.stderr


def test_a_summary_counts_alexnet_s_parameters_with_no_imagenet_here(tmp_path):
  done = launch('train', '--config=alexnet_imagenet', '--summary', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  *_, total = done.stdout.strip().splitlines()
  assert total.split()[:2] == ['total', '60,965,224']
  assert list(tmp_path.iterdir()) == []


# -------- the host --------


@pytest.fixture
def environment(monkeypatch):
  for name in (*os.environ,):
    if name.startswith(('SLURM', 'OMPI', 'TPU', 'MEGASCALE', 'XLA_FLAGS', 'GLIBC', 'BREAK')):
      monkeypatch.delenv(name)
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  return monkeypatch


def test_tuning_starts_anew_once_with_huge_pages(environment):
  environment.setenv('GLIBC_TUNABLES', 'glibc.malloc.check=0')
  environment.setattr(host.sys, 'platform', 'linux')
  started = []
  environment.setattr(host.os, 'execv', lambda *arguments: started.append(arguments))
  environment.setattr(host.sys, 'orig_argv', ['python', '-X', 'dev', 'launch.py', 'train'])
  record = host.tune()
  assert started == [(sys.executable, [sys.executable, '-X', 'dev', 'launch.py', 'train'])]
  assert record['GLIBC_TUNABLES'].startswith('glibc.malloc.check=0:glibc.malloc.hugetlb=1:')
  assert host.tune() == record
  assert len(started) == 1


def test_what_the_user_has_set_stays(environment):
  chosen = ':'.join(host.ALLOCATOR).replace('hugetlb=1', 'hugetlb=0')
  environment.setenv('GLIBC_TUNABLES', chosen)
  environment.setattr(host.importlib.metadata, 'version', lambda name: '0.10.2')
  environment.setenv('XLA_FLAGS', '--xla_foo=1')
  environment.setattr(host.os, 'execv', None)
  record = host.tune()
  assert record['GLIBC_TUNABLES'] == chosen
  assert record['XLA_FLAGS'] == f'--xla_foo=1 {host.PATIENCE} {host.EIGEN_CONVOLUTIONS}'
  environment.setenv('JAX_PLATFORMS', 'cuda,cpu')
  assert host.tune()['host_tuning'] is False
