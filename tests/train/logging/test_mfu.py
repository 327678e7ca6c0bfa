"""Model FLOPs utilisation: counted, divided by the devices' peak, logged, shown, or left out."""

import io
import json
from pathlib import Path

import jax
import pytest

from tests.train import toy
from train.logging import peaks
from train.logging.progress import Progress
from train.loop import Loop
from train.report import page as page_lib
from train.tasks.language.task import Language


class Device:
  def __init__(self, kind):
    self.device_kind = kind


def test_the_peak_of_several_devices_is_their_sum():
  assert peaks.seconds(989e12, [Device('NVIDIA H200')]) == pytest.approx(1)
  assert peaks.seconds(989e12, [Device('NVIDIA H200')] * 4) == pytest.approx(1 / 4)
  assert peaks.seconds(2 * 197e12, [Device('TPU v5 lite')]) == pytest.approx(2)


def test_one_unknown_device_or_an_unknown_count_makes_it_unknown():
  assert peaks.seconds(1e12, [Device('cpu')]) is None
  assert peaks.seconds(1e12, [Device('NVIDIA H200'), Device('NVIDIA H200 MIG 1g.18gb')]) is None
  assert peaks.seconds(None, [Device('NVIDIA H200')]) is None


def progress(now, **options):
  return Progress(8, 10, unit='tokens', clock=lambda: now[0], stream=io.StringIO(), **options)


def test_it_is_the_ideal_time_over_the_time_that_steps_took():
  now = [0.0]
  shown = progress(now, ideal=0.1)
  for step in range(1, 6):
    now[0] += 0.25
    shown.update(step)
  assert shown.rates()['time/mfu'] == pytest.approx(0.4)
  assert 'time/mfu' not in progress(now).rates()


class Counted(toy.Toy):
  flops = 8e6


def train(workdir, task):
  import optax

  mesh = toy.mesh_lib.make_mesh()
  Loop(steps=6, log_every=2).run(task, optax.sgd(0.1), lambda step: 0.1, mesh, str(workdir))
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines if 'train/loss' in line]


@pytest.mark.long
def test_the_loop_logs_it_for_known_devices_and_else_says_once_that_it_is_unknown(
  tmp_path, monkeypatch, capsys
):
  unknown = train(tmp_path / 'unknown', Counted())
  assert not any('time/mfu' in line for line in unknown)
  assert capsys.readouterr().err.count("MFU unknown: no peak is known of 'cpu'") == 1
  monkeypatch.setitem(peaks.PEAKS, jax.devices()[0].device_kind, 1e9)
  for line in train(tmp_path / 'known', Counted())[1:]:
    steps = line['time/images_per_second'] / 32
    assert line['time/mfu'] == pytest.approx(steps * 8e6 / 8e9)
  assert 'MFU unknown' not in capsys.readouterr().err
  assert not any('time/mfu' in line for line in train(tmp_path / 'uncounted', toy.Toy()))


def test_a_language_models_step_has_six_flops_a_weight_and_token_and_attention(tmp_path):
  class Data:
    vocab_size, block_size, batch_size = 11, 8, 3

  sizes = {'name': 'gpt', 'layers': 2, 'heads': 2, 'width': 16, 'block_size': 32}
  weights = 2 * (4 * 16 * 16 + 8 * 16 * 16) + 11 * 16
  attention = 12 * 2 * 16 * 8
  assert Language(sizes, Data()).flops == (6 * weights + attention) * 8 * 3


def test_the_report_has_its_chart_and_the_medians(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'model': {'name': 'gpt'}}))
  lines = [
    {'step': s, 'train/loss': 1 / s, 'time/tokens_per_second': 2e4 + s, 'time/mfu': 0.5 + s / 1000}
    for s in (1, 2, 3)
  ]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  page = Path(page_lib.write([str(tmp_path)])).read_text()
  assert 'Model FLOPs utilisation' in page
  assert '20k tokens/s, MFU 50.2 %' in page
