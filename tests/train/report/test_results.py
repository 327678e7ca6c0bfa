"""Numbers over seeds, their records, and the README's table."""

import json
from pathlib import Path

import pytest

from tests.train.report.folders import evaluate, run_folder
from train.errors import UserError
from train.report import numbers, results
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
  assert text.startswith(f'before\n{opening}\n| Experiment')
  assert text.endswith(f'{closing}\nafter\n') and 'old' not in text
  assert '[lenet](docs/results/lenet.json) | LeCun et al. 1998 | 0.95 % | **1.00 %**' in text
  readme.write_text('no markers')
  with pytest.raises(UserError, match='has no <!-- results -->'):
    results.update(readme)


def test_the_readmes_table_is_what_the_command_makes():
  opening, closing = results.MARKERS
  text = (ROOT / 'README.md').read_text()
  assert text.partition(opening)[2].partition(closing)[0].strip() == results.table(ROOT)
