"""The report page, from run folders written as `train` does."""

import base64
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.report.folders import PAPER, Outline, evaluate, run_folder, text_of, write
from train.errors import UserError
from train.report import numbers, pictures
from train.report import page as page_lib
from train.report.folder import read

ROOT = Path(__file__).parents[3]
PNG = b'\x89PNG\r\n\x1a\n'


# -------- the page --------


def test_page_is_one_file_with_all_that_the_run_left(tmp_path):
  path = page_lib.write([run_folder(tmp_path / 'a')])
  page = Path(path).read_text()
  outline = Outline(page)
  assert path == str(tmp_path / 'a' / 'report.html')
  assert not {'script', 'link', 'iframe'} & set(outline.tags)
  sources = [value for name, value in outline.attributes if name in ('src', 'href')]
  assert sources and all(value.startswith('data:image/png;base64,') for value in sources)
  assert 'url(' not in page and '@import' not in page
  assert outline.tags.count('svg') == 2  # loss and error
  seen = text_of(page)
  assert 'lenet on digits' in seen and 'LeCun et al. 1998' in seen
  assert '1.00 % ours, one seed' in seen and '0.95 % in the paper' in seen
  assert '8 × NVIDIA H200' in seen and '0123456789ab' in seen and 'jax 0.10.2' in seen
  assert 'python launch.py train --config=configs/lenet.py' in seen and '2 min 30 s' in seen
  assert '✓ cat 90 %' in seen and '✗ dog 60 % is <b>' in seen
  assert '6 filters of 5 × 5' in seen


def test_seeds_are_one_experiment_with_a_mean_and_a_deviation(tmp_path):
  errors = [0.009, 0.010, 0.011]
  runs = [run_folder(tmp_path / f's{i}', seed=i, error=e) for i, e in enumerate(errors)]
  output = tmp_path / 'new' / 'page.html'
  page = Path(page_lib.write(runs, str(output))).read_text()
  Outline(page)
  assert '1.00 ± 0.10 % ours, mean ± standard deviation of 3 seeds' in text_of(page)
  assert '90 examples, 3 seeds together' in text_of(page)
  assert page.count('stroke-opacity: 0.35') > 3  # each seed behind the mean


def test_different_configs_stand_side_by_side_with_their_differences_marked(tmp_path):
  runs = [run_folder(tmp_path / 'a', rate=0.1), run_folder(tmp_path / 'b', rate=0.5, error=0.02)]
  page = Path(page_lib.write(runs, str(tmp_path / 'page.html'))).read_text()
  Outline(page)
  assert '<tr class="differs"><td>optimizer.learning_rate</td><td>0.1</td><td>0.5</td>' in page
  assert page.count('class="differs"') == 1
  seen = text_of(page)
  assert 'Side by side' in seen and 'learning_rate 0.5 test/error 2.00 % 0.95 %' in seen


def test_a_run_still_going_is_reported_with_what_it_lacks(tmp_path):
  path = run_folder(tmp_path / 'a', steps=200, evaluated=False, error=0.2)
  with open(tmp_path / 'a' / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 210, "train/lo')  # being written
  page = Path(page_lib.write([path])).read_text()
  Outline(page)
  seen = text_of(page)
  assert 'at step 200 of 300' in seen and 'not evaluated yet; python launch.py eval' in seen
  assert '20.00 % ours, one seed, at the last evaluation while training' in seen
  assert 'Evaluation' not in re.findall('<h2>(.*?)</h2>', page)


@pytest.mark.parametrize('config', [{}, {'seed': 1}, {'model': None, 'paper': {}, 'train': {}}])
def test_a_folder_with_nothing_but_a_config_makes_a_page(tmp_path, config):
  write(tmp_path / 'config.json', {'seed': 0} | config)
  page = Path(page_lib.write([str(tmp_path)])).read_text()
  Outline(page)
  assert 'Nothing has been logged yet' in page and 'ours: not measured yet' in page


def test_a_nan_stop_and_damaged_files_are_said(tmp_path):
  path = run_folder(tmp_path / 'a')
  (tmp_path / 'a' / 'nan').mkdir()
  (tmp_path / 'a' / 'eval_figures.npz').write_bytes(b'PK\3\4 cut short')
  (tmp_path / 'a' / 'run.json').write_text('{')
  seen = text_of(Path(page_lib.write([path])).read_text())
  assert 'stopped on a value that is not finite' in seen
  assert 'run.json is damaged' in seen and 'eval_figures.npz is damaged' in seen


def test_what_is_no_run_folder_is_an_error_of_one_line(tmp_path):
  with pytest.raises(UserError, match=r'no config.json there; a workdir is what'):
    page_lib.write([str(tmp_path)])
  with pytest.raises(UserError, match=r'absent: no such folder'):
    page_lib.write([str(tmp_path / 'absent')])
  (tmp_path / 'config.json').write_text('{"seed": ')
  with pytest.raises(UserError, match=r'config.json: damaged'):
    page_lib.write([str(tmp_path)])
  with pytest.raises(UserError, match='no workdir given'):
    page_lib.write([])


def test_names_from_outside_are_escaped(tmp_path):
  path = run_folder(tmp_path / 'a', paper={**PAPER, 'title': '<script>alert("&")</script>'})
  page = Path(page_lib.write([path])).read_text()
  assert 'script' not in Outline(page).tags
  assert '&lt;b&gt;' in page  # a class


def test_many_classes_make_a_picture_of_the_confusion(tmp_path):
  path = run_folder(tmp_path / 'a')
  many = np.diag(np.full(100, 7)) + np.eye(100, k=1, dtype=int)
  old = json.loads((tmp_path / 'a' / 'eval.json').read_text())
  names = [f'class {i}' for i in range(100)]
  write(tmp_path / 'a' / 'eval.json', old | {'confusion': many.tolist(), 'classes': names})
  page = Path(page_lib.write([path])).read_text()
  assert 'class="heat"' in page and 'class="confusion"' not in page
  assert '799 examples' in page


def test_all_metrics_of_an_evaluation_are_listed_over_the_seeds(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i) for i in range(2)]
  for i, run in enumerate(map(Path, runs)):
    old = json.loads((run / 'eval.json').read_text())
    write(run / 'eval.json', old | {'metrics': {'test/error': 0.01, 'test/loss': 0.5 + i}})
  seen = text_of(Path(page_lib.write(runs)).read_text())
  assert 'Metric Value Seeds test/error 1.00 ± 0.00 % 2 test/loss 1.000 ± 0.707 2' in seen


def page_of(*runs):
  """What a reader sees of the page about some run folders."""
  return text_of(Path(page_lib.write(list(map(str, runs)))).read_text())


def test_all_that_eval_measured_is_on_the_page(tmp_path):
  run_folder(tmp_path / 'a')
  bits = {'metrics': {'bpd_ode': 3.21, 'bpd_ode_stderr': 0.0004}, 'bpd_ode': {'trace': 'exact'}}
  write(tmp_path / 'a' / 'eval_images.json', bits | {'options': {'images': 64}, 'step': 300})
  write(tmp_path / 'a' / 'eval-2.json', {'metrics': {'test/error': 0.02}, 'step': 200})
  texts = {'metrics': {'text/perplexity': 132.777, 'text/bits_per_byte': 3.364}}
  write(tmp_path / 'a' / 'eval_text.json', texts)
  seen = page_of(tmp_path / 'a')
  assert 'eval.json best checkpoint Metric Value test/error 1.00 %' in seen
  assert 'eval-2.json step 200 Metric Value test/error 2.00 %' in seen
  assert 'eval_images.json step 300, images=64 Metric Value bpd_ode 3.210' in seen
  assert 'bpd_ode_stderr 0.0004' in seen and 'bpd_ode.trace exact' in seen
  assert 'text/perplexity 132.777 text/bits_per_byte 3.364' in seen


def test_what_was_measured_in_two_ways_is_not_averaged(tmp_path):
  for i, images in enumerate((8, 64)):
    run_folder(tmp_path / f's{i}', seed=i)
    bits = {'metrics': {'bpd_ode': 3.0 + i}, 'options': {'images': images}}
    write(tmp_path / f's{i}' / 'eval_images.json', bits)
  seen = page_of(tmp_path / 's0', tmp_path / 's1')
  assert 'images=8 Metric Value Seeds bpd_ode 3 1' in seen
  assert 'images=64 Metric Value Seeds bpd_ode 4 1' in seen


def test_a_run_that_is_named_twice_or_copied_counts_once(tmp_path):
  run_folder(tmp_path / 'a')
  shutil.copytree(tmp_path / 'a', tmp_path / 'b')
  seen = page_of(tmp_path / 'a', tmp_path / 'b', tmp_path / 'a')
  assert '1.00 % ours, one seed test/error 0.95 %' in seen and '±' not in seen
  assert seen.count('the same config and seed as') == 2
  assert '30 examples;' in seen


def test_a_value_that_is_not_finite_is_marked_and_said(tmp_path):
  run_folder(tmp_path / 'a', evaluated=False)
  with open(tmp_path / 'a' / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 310, "test/error": null}\n{"step": 320, "test/error": null}\n')
  seen = page_of(tmp_path / 'a')
  assert 'test/error: 2 of 5 values are not finite, first at step 310; a × marks them.' in seen
  assert 'not finite ours, one seed, at the last evaluation while training, step 320' in seen


def test_an_evaluation_of_an_earlier_step_is_said(tmp_path):
  run_folder(tmp_path / 'a')
  old = json.loads((tmp_path / 'a' / 'eval.json').read_text())
  write(tmp_path / 'a' / 'eval.json', old | {'checkpoint': 'latest', 'step': 100})
  assert 'eval.json is of an earlier step than its last; eval again.' in page_of(tmp_path / 'a')


def test_a_best_checkpoint_that_its_own_number_chose_is_said(tmp_path):
  run_folder(tmp_path / 'a')
  config = json.loads((tmp_path / 'a' / 'config.json').read_text())
  config['train']['best'] = 'test/error'
  write(tmp_path / 'a' / 'config.json', config)
  seen = page_of(tmp_path / 'a')
  assert 'the best checkpoint was chosen by test/error itself, which flatters it.' in seen


def test_forty_runs_without_evaluation_are_one_notice(tmp_path):
  paths = [run_folder(tmp_path / f'r{i}', rate=i, evaluated=False, steps=20) for i in range(40)]
  seen = page_of(*paths)
  assert 'r0 and 39 more: not evaluated yet;' in seen and seen.count('not evaluated yet') == 1
  assert 'and 32 more' in seen  # that are not over


def test_folders_of_one_name_are_told_apart(tmp_path):
  for name in 'ab':
    (tmp_path / name).mkdir()
    run_folder(tmp_path / name / 'run', rate=0.1 if name == 'a' else 0.2)
    config = json.loads((tmp_path / name / 'run' / 'config.json').read_text())
    write(tmp_path / name / 'run' / 'config.json', config | {'x': name * 99, 'y': name, 'z': name})
  groups = numbers.groups([read(str(tmp_path / name / 'run')) for name in 'ab'])
  assert page_lib.labels(groups) == [str(tmp_path / name / 'run') for name in 'ab']


def test_names_that_html_or_utf8_cannot_hold_are_escaped(tmp_path):
  run_folder(tmp_path / 'a')
  old = json.loads((tmp_path / 'a' / 'eval.json').read_text())
  write(tmp_path / 'a' / 'eval.json', old | {'classes': ['caf\udce9', 'red\x1b[31m', '\0']})
  seen = page_of(tmp_path / 'a')
  assert 'caf\\udce9' in seen and 'red\\x1b[31m' in seen and '\\x00' in seen


def test_a_page_that_cannot_be_written_says_where_else(tmp_path):
  run = run_folder(tmp_path / 'a')
  with pytest.raises(UserError, match='is a folder or a device; name a file with --output=FILE'):
    page_lib.write([run], str(tmp_path))
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='name another place with --output=FILE'):
    page_lib.write([run], str(tmp_path / 'file' / 'page.html'))


@pytest.mark.parametrize('evaluation', [{'step': 1}, {'metrics': None, 'confusion': [[1]]}])
def test_an_evaluation_without_its_parts_makes_a_page(tmp_path, evaluation):
  path = run_folder(tmp_path / 'a')
  write(tmp_path / 'a' / 'eval.json', evaluation)
  (tmp_path / 'a' / 'eval_figures.npz').unlink()
  Outline(Path(page_lib.write([path])).read_text())


def test_every_task_has_words():
  from train.tasks import DECLARATIONS

  assert all(task.report.evaluation for task in DECLARATIONS.values())


def test_writing_a_page_starts_no_jax(tmp_path):
  path = run_folder(tmp_path / 'a')
  code = 'import sys; from train.report import page; page.write(sys.argv[1:]); print(*sys.modules)'
  command = [sys.executable, '-c', code, path]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
  assert not {'jax', 'flax', 'tensorflow'} & set(done.stdout.split())


# -------- pictures --------


def test_the_mistakes_that_are_not_listed_are_counted(tmp_path):
  run_folder(tmp_path / 'a')
  counts = (np.ones((5, 5), int) + 9 * np.eye(5, dtype=int)).tolist()
  write(tmp_path / 'a' / 'eval.json', {'confusion': counts})
  assert 'The most frequent 8 of 20 kinds of mistakes.' in page_of(tmp_path / 'a')


def test_a_class_without_examples_has_no_error(tmp_path):
  run_folder(tmp_path / 'a')
  write(tmp_path / 'a' / 'eval.json', {'confusion': [[3, 1], [0, 0]]})
  found = pictures.confusion([read(str(tmp_path / 'a'))])
  assert [error for *_, error in found.rows] == [0.25, None]


def test_seeds_with_other_classes_or_of_an_ensemble_are_not_added_up(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i) for i in range(3)]
  old = json.loads((tmp_path / 's1' / 'eval.json').read_text())
  write(tmp_path / 's1' / 'eval.json', old | {'classes': ['dog', 'cat', '<b>']})
  evaluate(tmp_path / 's2', 0.005, workdirs=runs)
  found = pictures.confusion([read(run) for run in runs])
  assert (found.total, found.seeds, found.others) == (30, 1, 1)


def test_a_picture_that_is_too_large_or_damaged_is_said():
  bomb = PNG + struct.pack('>I4sIIBBBBB', 13, b'IHDR', 10**5, 10**5, 8, 0, 0, 0, 0)
  bomb += struct.pack('>I', zlib.crc32(bomb[-17:])) + struct.pack('>I4s', 0, b'IDAT')
  for contents in (bomb, b'', PNG, b'GIF89a'):
    assert pictures.drawing('grid.png', contents) == pictures.Drawing('grid.png')


def test_a_moving_picture_moves_in_the_page_unless_it_is_too_large(monkeypatch):
  frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 128, 255)]
  file = io.BytesIO()
  frames[0].save(file, 'PNG', save_all=True, append_images=frames[1:], duration=60, loop=0)
  drawn = pictures.drawing('episode.png', file.getvalue()).picture
  assert base64.b64decode(drawn.source.partition(',')[2]) == file.getvalue()
  monkeypatch.setattr(pictures, 'MOVING', 10)
  still = pictures.drawing('episode.png', file.getvalue()).picture
  assert b'acTL' not in base64.b64decode(still.source.partition(',')[2])


def test_what_a_page_does_not_show_of_samples_is_named(tmp_path):
  run_folder(tmp_path / 'a')
  samples = tmp_path / 'a' / 'samples'
  samples.mkdir()
  for name in ('00000300-game.sgf', '00000300-a.txt', '٣-b.txt', f'{"9" * 5000}-c.txt'[:200]):
    (samples / name).write_text('x')
  (samples / '00000400-folder').mkdir()
  seen = page_of(tmp_path / 'a')
  assert 'Drawn at step 300, while training. Also in its folder samples: game.sgf.' in seen


def test_filters_are_grey_at_zero_and_each_uses_its_range():
  kernel = np.zeros((1, 3, 3, 2), np.float32)
  kernel[0, :, :, 0] = [[-2] * 3, [0] * 3, [1] * 3]
  tiles = pictures.filter_tiles(kernel)
  assert tiles.shape == (2, 1, 3, 3)
  assert tiles[0, 0, :, 0].tolist() == [0, 128, 191]
  assert (tiles[1] == 128).all()
  assert pictures.filter_tiles(np.ones((5, 5, 4, 6))).shape == (6, 5, 5, 1)
