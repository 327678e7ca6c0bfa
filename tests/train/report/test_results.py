"""Numbers over seeds, their records, and the README's table."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.train.report.folders import PAPER, evaluate, run_folder, write
from train.errors import UserError
from train.report import numbers, results, standing
from train.report.folder import read

ROOT = Path(__file__).parents[3]


def test_a_record_has_the_number_and_how_to_get_it(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i, error=0.008 + 0.001 * i) for i in range(2)]
  path = results.write(runs, str(tmp_path / 'results' / 'lenet.json'), 'Pixels are re-encoded.')
  record = json.loads(Path(path).read_text())
  assert record['name'] == 'lenet' and record['seeds'] == [0, 1] and record['date'] == '2026-01-31'
  assert record['paper'] == {'title': 'LeCun et al. 1998', 'metric': 'test/error', 'value': 0.0095}
  assert record['ours']['n'] == 2
  assert record['ours']['values'] == pytest.approx([0.008, 0.009])
  assert record['ours']['mean'] == pytest.approx(0.0085)
  assert record['ours']['std'] == pytest.approx(0.001 / 2**0.5)  # n - 1
  assert record['command'] == 'python launch.py train --config=configs/lenet.py'
  results.write(runs, path)  # again, and the note stays
  assert json.loads(Path(path).read_text())['note'] == 'Pixels are re-encoded.'


def test_a_record_is_of_one_config_and_evaluated(tmp_path):
  runs = [run_folder(tmp_path / 'a', rate=0.1), run_folder(tmp_path / 'b', rate=0.2)]
  with pytest.raises(UserError, match=r'differ in optimizer\.learning_rate'):
    results.record(runs, 'x')
  with pytest.raises(UserError, match=r'c: no test/error of its own; run `launch.py eval` there'):
    results.record([run_folder(tmp_path / 'c', evaluated=False)], 'x')


def test_an_ensemble_is_no_seed(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i, error=0.01) for i in range(2)]
  evaluate(tmp_path / 's0', 0.005, workdirs=runs)
  folders = [read(run) for run in runs]
  assert numbers.number(folders[:1]).values == (0.005,)
  assert numbers.number(folders).values == (0.01, 0.01)  # s0's from its curve
  with pytest.raises(UserError, match=r's0: no test/error of its own'):
    results.record(runs, 'x')


def test_the_table_stands_between_the_readmes_markers(tmp_path):
  readme, (opening, closing) = tmp_path / 'README.md', results.MARKERS
  readme.write_text(f'before\n{opening}\nold\n{closing}\nafter\n')
  results.write([run_folder(tmp_path / 'a')], str(tmp_path / results.RESULTS / 'lenet.json'))
  assert results.update(readme)
  assert not results.update(readme)  # the second time changes nothing
  text = readme.read_text()
  assert text.startswith(f'before\n{opening}\n{results.MEASURED}\n\n| Experiment')
  assert text.endswith(f'{closing}\nafter\n') and 'old' not in text
  assert '[lenet](docs/results/lenet.json) | LeCun et al. 1998 | 0.95 % | **1.00 %**' in text
  readme.write_text('no markers')
  with pytest.raises(UserError, match='has no <!-- results -->'):
    results.update(readme)


def test_numbers_as_good_as_the_papers_come_first(tmp_path):
  for name, error in (('worse', 0.01), ('as_good', 0.0095)):
    run = run_folder(tmp_path / name, error=error)
    results.write([run], str(tmp_path / results.RESULTS / f'{name}.json'))
  reached, measured = results.table(tmp_path).split(results.MEASURED)
  assert '[as_good]' in reached and '[worse]' not in reached
  assert '[worse]' in measured and '[as_good]' not in measured


@pytest.mark.parametrize(
  ('metric', 'ours', 'theirs', 'reached'),
  [
    ('test/error', 0.08, 0.09, True),
    ('test/accuracy', 0.41, 0.57, False),
    ('val/loss', 1.47, 1.47, True),
    ('solved/optimal', 0.94, 1.0, False),
    ('test/BLEU', 42.0, 41.0, True),
  ],
)
def test_a_number_reaches_the_papers_if_it_is_at_least_as_good(metric, ours, theirs, reached):
  assert numbers.reaches(metric, ours, theirs) == reached


def test_the_readmes_table_is_what_the_command_makes():
  opening, closing = results.MARKERS
  text = (ROOT / 'README.md').read_text()
  assert text.partition(opening)[2].partition(closing)[0].strip() == results.table(ROOT)


# -------- what counts, and once --------


def test_a_run_named_twice_or_copied_is_one_seed(tmp_path, capsys):
  run = run_folder(tmp_path / 'a', error=0.01)
  shutil.copytree(run, tmp_path / 'copy')
  found = results.record([run, run, str(tmp_path / 'copy')], 'x')
  assert found['ours'] == {'mean': 0.01, 'std': None, 'n': 1, 'values': [0.01]}
  assert found['seeds'] == [0]
  assert capsys.readouterr().err.count('counts once') == 2


def test_of_a_run_and_its_resumption_elsewhere_the_longer_counts(tmp_path):
  part = run_folder(tmp_path / 'part', error=0.2, steps=100, evaluated=False)
  whole = run_folder(tmp_path / 'whole', error=0.01)
  other = run_folder(tmp_path / 'other', error=0.03, seed=1)
  found = results.record([part, whole, other], 'x')
  assert found['ours']['values'] == [0.01, 0.03] and found['seeds'] == [0, 1]


def test_one_seed_with_two_numbers_is_refused(tmp_path):
  runs = [run_folder(tmp_path / name, error=x) for name, x in (('a', 0.01), ('b', 0.02))]
  with pytest.raises(UserError, match=r'have the same seed 0 and other numbers, 0\.02 and 0\.01'):
    results.record(runs, 'x')


def test_seeds_may_differ_in_where_they_ran(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i) for i in range(2)]
  config = json.loads((tmp_path / 's1' / 'config.json').read_text())
  config['data'] |= {'data_dir': '/elsewhere', 'workers': 7}
  write(tmp_path / 's1' / 'config.json', config)
  assert results.record(runs, 'x')['ours']['n'] == 2


def test_a_run_that_is_not_over_or_went_on_is_no_result(tmp_path):
  run = run_folder(tmp_path / 'a', steps=200)
  with pytest.raises(UserError, match='at step 200 of 300; a result is of a whole run'):
    results.record([run], 'x')
  run = run_folder(tmp_path / 'b')
  change(tmp_path / 'b' / 'eval.json', checkpoint='latest', step=100)
  with pytest.raises(UserError, match='went on to step 300 after its evaluation'):
    results.record([run], 'x')


def test_seeds_that_were_evaluated_in_two_ways_are_no_result(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i) for i in range(2)]
  change(tmp_path / 's1' / 'eval.json', overrides={'task.view': 'ten_crop(size=224)'})
  with pytest.raises(
    UserError, match=r'in different ways: best checkpoint; best checkpoint, task\.v'
  ):
    results.record(runs, 'x')


def test_a_number_that_is_not_finite_is_no_result(tmp_path):
  run = run_folder(tmp_path / 'a')
  change(tmp_path / 'a' / 'eval.json', metrics={'test/error': float('nan')})
  with pytest.raises(UserError, match='its test/error is not finite'):
    results.record([run], 'x')


def test_a_record_names_all_devices_commits_and_versions(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i) for i in range(2)]
  start = {'device': 'cpu', 'processor': 'AMD EPYC, 2 cores', 'versions': {'jax': '0.11.2'}}
  start['process_count'] = 2
  write(tmp_path / 's1' / 'run.json', {'starts': [start | {'commit': 'fedcba9876543210'}]})
  found = results.record(runs, 'x')
  assert found['device'] == '8 × NVIDIA H200; AMD EPYC, 2 cores, 2 processes'
  assert found['versions'] == {'python': '3.11.2', 'jax': '0.10.2; 0.11.2'}
  assert found['commit'] == '0123456789ab; fedcba987654'


def change(path, **values):
  """Replaces keys of a JSON file."""
  write(path, json.loads(path.read_text()) | values)


# -------- numbers --------


def test_the_headline_may_be_measured_by_an_option_of_eval(tmp_path):
  run = run_folder(tmp_path / 'a', paper={'metric': 'FID', 'value': 1.97, 'title': 'X', 'note': ''})
  write(tmp_path / 'a' / 'eval_samples.json', {'metrics': {'FID': 2.5}, 'options': {'samples': 9}})
  found = numbers.number([read(run)])
  assert (found.mean, found.evaluated) == (2.5, True)


def test_a_metric_of_training_needs_no_evaluation(tmp_path):
  paper = {'metric': 'train/play_first_share', 'value': 1.0, 'title': 'X', 'note': ''}
  run = run_folder(tmp_path / 'a', paper=paper, evaluated=False)
  with open(tmp_path / 'a' / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 300, "train/play_first_share": 0.9}\n')
  assert results.record([run], 'x')['ours'] == {'mean': 0.9, 'std': None, 'n': 1, 'values': [0.9]}


def test_seeds_that_are_at_different_steps_are_compared_where_all_have_been(tmp_path):
  runs = [
    run_folder(tmp_path / f's{i}', seed=i, steps=steps, evaluated=i == 0, error=error)
    for i, (steps, error) in enumerate([(300, 0.1), (200, 0.2)])
  ]
  found = numbers.number([read(run) for run in runs])
  assert found.values == (0.1, 0.2) and found.steps == (200, 200) and not found.evaluated


def test_a_last_value_that_is_not_finite_is_not_the_one_before(tmp_path):
  run = run_folder(tmp_path / 'a', evaluated=False)
  with open(tmp_path / 'a' / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 400, "test/error": null}\n')
  found = numbers.number([read(run)])
  assert numbers.shown('test/error', found.mean) == 'not finite' and found.difference is None


@pytest.mark.parametrize(
  ('metric', 'value', 'std', 'text'),
  [
    ('test/error', 0.0082, 0.0003, '0.82 ± 0.03 %'),
    ('test/error', 0.0, None, '0.00 %'),
    ('test/error', 0.00002, None, '0.002 %'),
    ('test/error', 0.5, 0.00002, '50.000 ± 0.002 %'),
    ('val/loss', 1.47, 0.002, '1.470 ± 0.002'),
    ('bpd_stderr', 0.00034, None, '0.0003'),
    ('text/perplexity', 254015877.95, None, '254,015,878'),
    ('text/perplexity', 1234.56, None, '1,234.6'),
    ('lines/losses', 559.0, None, '559'),
    ('KID', 3e-12, None, '3.0e-12'),
    ('x', float('inf'), None, 'not finite'),
    ('x', None, None, '–'),
  ],
)
def test_a_number_keeps_the_digits_that_it_has(metric, value, std, text):
  assert numbers.shown(metric, value, std) == text


def test_the_command_is_the_last_start_s_and_a_quote_left_open_does_no_harm(tmp_path):
  run = run_folder(tmp_path / 'a')
  starts = [{'command': "python launch.py train --config='a"}, {'command': 'python launch.py x -y'}]
  write(tmp_path / 'a' / 'run.json', {'starts': starts})
  assert numbers.command(read(run)) == 'python launch.py x -y'
  write(tmp_path / 'a' / 'run.json', {'starts': starts[:1]})
  assert numbers.command(read(run)) == starts[0]['command']


def test_a_command_has_the_last_part_of_paths_that_lie_on_this_machine_alone(tmp_path):
  run = run_folder(tmp_path / 'a')
  said = 'python launch.py train --config.task.teacher=/home/me/runs/t --config=a /x/y=1 --b=c/d'
  write(tmp_path / 'a' / 'run.json', {'starts': [{'command': said}]})
  shown = 'python launch.py train --config.task.teacher=t --config=a y=1 --b=c/d'
  assert numbers.command(read(run)) == shown


@pytest.mark.parametrize('path', sorted(ROOT.glob('docs/results/**/*.json')), ids=lambda x: x.name)
def test_no_kept_record_has_a_path_of_the_machine(path):
  assert not re.search(r'(?<![\w.)])/(work|home|root|tmp|mnt|Users)/', path.read_text())


# -------- README's table --------


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('{"name": ', 'lenet.json is damaged'),
    ('[]', 'lenet.json is damaged'),
    ('{"name": 5}', 'name of another type'),
    ('{"name": "x"}', 'lenet.json has no'),
  ],
)
def test_a_damaged_result_is_named_and_the_readme_stays(tmp_path, text, words):
  readme, (opening, closing) = tmp_path / 'README.md', results.MARKERS
  readme.write_text(f'{opening}\nold\n{closing}\n')
  (tmp_path / results.RESULTS).mkdir(parents=True)
  (tmp_path / results.RESULTS / 'lenet.json').write_text(text)
  with pytest.raises(UserError, match=words):
    results.update(readme)
  assert 'old' in readme.read_text()


def test_a_bar_or_a_line_break_in_a_name_does_not_break_the_table(tmp_path):
  run = run_folder(tmp_path / 'a', paper=PAPER | {'title': 'a | b\nc'})
  results.write([run], str(tmp_path / results.RESULTS / 'x.json'))
  table = results.table(tmp_path)
  rows = [line for line in table.splitlines() if line.startswith('|')]
  assert 'a \\| b c' in table and len(rows) == 3


# -------- what still stands --------


@pytest.mark.long
def test_a_command_that_is_refused_by_now_is_told():
  accepted = 'python launch.py train --config=lenet_digits'
  assert standing.refusal(accepted, ROOT) == ''
  refused = standing.refusal(f'{accepted} --config.optimizer.learning=0.1', ROOT)
  assert refused.startswith('its command is refused now: ') and 'learning' in refused
  assert 'no such file' in standing.refusal('python launch.py train --config=gone', ROOT)


def test_the_age_of_a_number_is_that_of_the_code(tmp_path):
  def git(*words):
    settings = ['-c', 'user.name=x', '-c', 'user.email=x']
    command = ['git', '-C', str(tmp_path), *settings, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

  def commit(path):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text('')
    git('add', '.')
    git('commit', '--message', path)
    return git('rev-parse', '--short=12', 'HEAD')

  git('init', '--quiet')
  first = commit('models/lenet.py')
  commit('docs/lenet.md')
  assert standing.age(first, tmp_path) == ''
  commit('train/step.py')
  assert (
    standing.age(f'{first} + changes', tmp_path) == f'measured at {first}, 1 change to the code ago'
  )
  assert (
    standing.age('0123456789ab', tmp_path) == 'measured at 0123456789ab, which is no commit here'
  )
  assert standing.age('', tmp_path) == 'no commit is recorded with it'
