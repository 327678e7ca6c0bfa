"""The log of a run: exact over stops and resumes, and read back by TensorBoard."""

import fcntl
import io
import json
import os
import struct
import subprocess
import sys
import termios

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.logging.metrics import MetricLog, NonFinite, read
from train.logging.progress import Progress, format_facts
from train.logging.tensorboard import TensorBoard

EVERY = 4  # steps an interval


def metrics(step):
  """Sums over batches of unequal size; floats that no short decimal holds."""
  weight = 3 + step % 2
  loss = np.float32(weight / (step + 0.1))
  return {'loss': (jnp.float32(loss), jnp.float32(weight)), 'rate': (jnp.float32(1), jnp.ones(()))}


def run(workdir, steps, start=0, state=None, save_at=(), **options):
  """Logs as the loop does; returns step -> state() for the steps in `save_at`."""
  log, states = MetricLog(str(workdir), writers=[TensorBoard], **options), {}
  log.restore(state, start)
  for step in range(start + 1, steps + 1):
    log.add(step, metrics(step))
    if step % EVERY == 0:
      log.close_interval(step, {'time/seconds': float(step)})
    if step % 6 == 0:
      log.write(step, {'test/error': 1 / step})
    if step in save_at:
      states[step] = json.loads(json.dumps(log.state()))
  log.close()
  return states


def test_a_line_is_the_mean_over_examples_since_the_line_before(tmp_path):
  run(tmp_path, 8, save_at=[8])
  pairs = [metrics(step)['loss'] for step in range(5, 9)]
  mean = sum(float(total) for total, _ in pairs) / sum(float(weight) for _, weight in pairs)
  expected = {'step': 8, 'train/loss': mean, 'train/rate': 1.0, 'time/seconds': 8.0}
  assert read(tmp_path)[-1] == expected
  assert [line['step'] for line in read(tmp_path)] == [4, 6, 8]


def test_what_a_step_has_of_something_becomes_a_rate(tmp_path):
  log = MetricLog(str(tmp_path))
  log.restore(None, 0)
  for step, games in ((1, 2.0), (2, 4.0)):
    log.add(step, {'play_games_a_step': (jnp.float32(games), jnp.ones(()))})
  log.close_interval(2, {'time/steps_per_second': 0.5})
  log.drain()
  assert read(tmp_path) == [
    {'step': 2, 'train/play_games_a_step': 3.0, 'time/play_games_per_second': 1.5}
  ]


def test_an_interval_is_fetched_when_the_next_one_is_over(tmp_path):
  log = MetricLog(str(tmp_path))
  log.restore(None, 0)
  for step in (1, 2):
    log.add(step, metrics(step))
    log.close_interval(step, {})
    assert [line['step'] for line in read(tmp_path)] == list(range(1, step))
  log.drain()
  assert [line['step'] for line in read(tmp_path)] == [1, 2]
  log.close()


@settings(max_examples=25)
@given(saved=st.integers(0, 20), lost=st.integers(0, 9), cut=st.booleans())
def test_a_run_killed_anywhere_ends_in_the_same_lines(tmp_path_factory, saved, lost, cut):
  straight, stopped = (tmp_path_factory.mktemp(name) for name in ('straight', 'stopped'))
  run(straight, 20, save_at=[20])
  states = run(stopped, min(20, saved + lost), save_at=[saved])
  if cut:  # in the middle of writing a line
    with open(stopped / 'metrics.jsonl', 'a') as file:
      file.write('{"step": 19, "train/lo')
  run(stopped, 20, saved, states.get(saved), save_at=[20])

  def bits(workdir):
    return [{k: v for k, v in x.items() if not k.startswith('time/')} for x in read(workdir)]

  assert bits(stopped) == bits(straight)


def test_seconds_of_training_count_on_over_starts(tmp_path):
  states = run(tmp_path, 8, save_at=[8])
  run(tmp_path, 16, 8, states[8], save_at=[16])  # whose clock shows 12 and 16
  assert [line['time/seconds'] for line in read(tmp_path) if 'time/seconds' in line] == [
    4,
    8,
    8 + 12,
    8 + 16,
  ]


@pytest.mark.parametrize('name', ['loss', 'grad_norm'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_the_first_step_that_is_not_finite_is_told(tmp_path, name, value):
  log = MetricLog(str(tmp_path))
  log.restore(None, 0)
  for step in range(1, 6):
    bad = value if step >= 3 else 1.0
    log.add(step, {**metrics(step), name: (jnp.float32(bad), jnp.ones(()))})
  with pytest.raises(NonFinite, match=f'train/{name} is not finite at step 3') as caught:
    log.state()
  assert caught.value.step == 3
  log.close()


def test_other_values_that_are_not_finite_are_null_and_strict_json(tmp_path):
  log = MetricLog(str(tmp_path))
  log.restore(None, 0)
  log.write(1, {'test/perplexity': float('inf'), 'test/error': 0.5})
  log.add(2, {'accuracy': (jnp.float32(0), jnp.float32(0))})  # no example: no mean
  log.close_interval(2, {})
  log.drain()
  log.close()
  text = (tmp_path / 'metrics.jsonl').read_text()
  assert text == '{"step": 1, "test/perplexity": null, "test/error": 0.5}\n{"step": 2}\n'


def test_only_one_process_writes(tmp_path):
  states = run(tmp_path, 6, save_at=[6], write=False)
  assert [step for step, _ in states[6]['steps']] == [5, 6]
  assert list(tmp_path.iterdir()) == []


def test_tensorboard_reads_the_events_and_forgets_what_was_undone(tmp_path):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  states = run(tmp_path, 12, save_at=[6])  # killed after 12, of which 8 and 12 are undone
  run(tmp_path, 16, 6, states[6], save_at=[16])
  events = EventAccumulator(str(tmp_path)).Reload()
  lines = {line['step']: line for line in read(tmp_path) if 'train/loss' in line}
  scalars = {event.step: event.value for event in events.Scalars('train/loss')}
  assert scalars == {step: np.float32(line['train/loss']) for step, line in lines.items()}
  assert [event.step for event in events.Scalars('test/error')] == [6, 12]


def test_writing_events_imports_no_tensorflow(tmp_path):
  """Even where it is installed, as this folder of that name plays."""
  (tmp_path / 'tensorflow').mkdir()
  (tmp_path / 'tensorflow' / '__init__.py').write_text('raise SystemExit("imported")')
  code = (
    'import sys; sys.path.insert(0, sys.argv[1])\n'
    'from train.logging.metrics import MetricLog\n'
    'from train.logging.tensorboard import TensorBoard\n'
    'log = MetricLog(sys.argv[1], writers=[TensorBoard])\n'
    'log.restore(None, 0); log.write(1, {"a": 1.0}); log.close()'
  )
  subprocess.run([sys.executable, '-c', code, str(tmp_path)], check=True)
  assert read(tmp_path) == [{'step': 1, 'a': 1.0}]


# -------- progress --------


def test_what_is_not_known_yet_is_left_out():
  assert format_facts(0.0, 'images', 0.0, ()) == []
  assert format_facts(12345.6, 'images', 0.0, ()) == ['12,346 images/s']
  assert format_facts(1.23, 'games', 0.5132, ('loss 2', 'error 1')) == [
    '1.2 games/s',
    'MFU 51.3 %',
    'loss 2 error 1',
  ]


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_rates_leave_out_compiling_and_evaluating():
  now = 0.0
  stream = io.StringIO()
  progress = Progress(8, 10, stream=stream, clock=lambda: now)
  now = 100.0  # the compiler
  progress.update(1)
  for step in (2, 3, 4, 5):
    now += 0.5
    progress.update(step)
  rates = {'time/images_per_second': 20.0, 'time/steps_per_second': 2.0}
  assert progress.rates() == {'time/seconds': 102.0, **rates}
  progress.show({})
  with progress.paused():
    now += 1000
  progress.update(6)
  now += 1
  progress.update(7)
  assert progress.rates()['time/images_per_second'] == 20.0
  progress.show({'step': 5, 'train/loss': 0.25, 'train/error': 0.0125, 'train/grad_norm': 3.0})
  progress.report(7, {'test/error': 0.0123456})
  progress.close()
  assert stream.getvalue().splitlines() == [
    'step 5/8  62%  20 images/s  00:02 left',
    'step 7/8  87%  20 images/s  00:00 left  loss 0.25 error 0.0125 (step 5)',
    'step 7  test/error 0.01235',
  ]


def test_a_terminal_gets_a_bar_that_lines_pass_by():
  stream = Terminal()
  progress = Progress(3, 10, start=1, stream=stream)
  progress.update(2)
  progress.note('saved')
  progress.show({'step': 2, 'train/loss': 0.25})
  progress.update(3)
  progress.close()
  lines = [line.strip() for line in stream.getvalue().replace('\r', '\n').splitlines()]
  assert 'saved' in lines
  assert any('1/3' in line for line in lines[: lines.index('saved')])
  assert lines[-1].startswith('100%') and '3/3' in lines[-1] and 'loss 0.25' in lines[-1]
  assert stream.getvalue().endswith('\n')


def drawn(columns, monkeypatch):
  """What a terminal of so many columns gets, and the log lines of others."""
  monkeypatch.delenv('COLUMNS', raising=False)
  try:
    master, slave = os.openpty()
  except OSError as error:  # in a container without /dev/pts
    pytest.skip(f'no pseudo-terminal: {error}')
  fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
  with os.fdopen(slave, 'w') as stream, monkeypatch.context() as patch:
    patch.setattr(sys, 'stderr', stream)
    progress = Progress(100_000, 64)
    progress.update(1)
    progress.update(50_000)
    progress.rates()
    progress.show({'step': 50_000, 'train/loss': 0.25, 'train/error': 0.125})
    print('from elsewhere', file=sys.stderr)
    progress.update(100_000)
    progress.close()
    assert sys.stderr is stream
    stream.write('after\n')
    stream.flush()
    text = b''
    while b'after\r\n' not in text:
      text += os.read(master, 1 << 16)
  os.close(master)
  return text.decode().replace('\r\n', '\n')


@pytest.mark.parametrize(
  ('columns', 'facts'), [(120, ['loss 0.25  error 0.125']), (80, ['loss 0.25']), (40, []), (20, [])]
)
def test_the_bar_fits_its_terminal_and_stays(columns, facts, monkeypatch):
  """Facts are whole or left out; lines of others stand above it."""
  lines = drawn(columns, monkeypatch).split('\n')
  shown = [line.split('\r')[-1].rstrip() for line in lines]
  assert all(len(part) <= columns for line in lines for part in line.split('\r'))
  assert shown[0] == 'from elsewhere'
  assert shown[1].startswith('100%|') and shown[2] == 'after'
  assert all(fact in shown[1] for fact in facts)
  assert ('loss' in shown[1]) == bool(facts)
  assert columns < 40 or shown[1].endswith(']')


def test_a_terminal_of_unknown_width_gets_a_bar(monkeypatch):
  assert '100000/100000' in drawn(0, monkeypatch)


class Closed(io.StringIO):
  def write(self, text):
    raise BrokenPipeError

  def isatty(self):
    return False


def test_a_reader_that_left_does_not_end_the_run():
  progress = Progress(2, 10, stream=Closed())
  progress.update(1)
  progress.note('saved')
  progress.note('and again')
  progress.close()


def test_a_damaged_line_is_left_out(tmp_path):
  good = '{"step": 1, "a": 2}\n'
  (tmp_path / 'metrics.jsonl').write_text(f'{good}\0\0\0}}\n[3]}}\n{{"step": "x"}}\n{good}')
  assert read(tmp_path) == [{'step': 1, 'a': 2}] * 2


def test_other_processes_show_nothing():
  stream = Terminal()
  progress = Progress(2, 10, show=False, stream=stream)
  progress.update(1)
  progress.note('saved')
  progress.rates()
  progress.close()
  assert stream.getvalue() == ''


@pytest.mark.parametrize(
  'line',
  [
    '\x00' * 20,
    '[]',
    '{"step": "7"}',
    '{"step": 7, "x": [1]}',
    '{"step": 7, "x": 1' + '0' * 400 + '}',
  ],
)
def test_what_is_no_metric_is_kept_and_said_on_resume(tmp_path, capsys, line):
  path = tmp_path / 'metrics.jsonl'
  before = f'{{"step": 2, "train/loss": 1.0}}\n{line}\n{{"step": 3, "time/seconds": null}}\n'
  path.write_text(before)
  log = MetricLog(str(tmp_path))
  log.restore({'steps': []}, 3)
  log.close()
  assert [record['step'] for record in read(str(tmp_path))] == [2, 3]
  assert (tmp_path / 'metrics.jsonl.damaged').read_text() == before
  assert 'line 2 and 1 in all are no metrics; kept as' in capsys.readouterr().err


def test_a_line_that_a_kill_has_cut_is_no_news(tmp_path, capsys):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 2, "train/loss": 1.0}\n{"step": 3, "tr')
  log = MetricLog(str(tmp_path))
  log.restore({'steps': []}, 3)
  log.close()
  assert capsys.readouterr().err == ''
  assert not (tmp_path / 'metrics.jsonl.damaged').exists()


def test_a_folder_in_the_place_of_the_log_is_moved_away(tmp_path, capsys):
  (tmp_path / 'metrics.jsonl').mkdir()
  log = MetricLog(str(tmp_path))
  log.restore(None, 0)
  log.write(1, {'test/error': 0.5})
  log.close()
  assert read(str(tmp_path)) == [{'step': 1, 'test/error': 0.5}]
  assert 'cannot be read: Is a directory' in capsys.readouterr().err
