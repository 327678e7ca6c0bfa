"""The kept records of `compile`, the least that a step must send, and the page's table."""

import json
from pathlib import Path

import pytest

from train.aot import table
from train.errors import UserError

ROOT = Path(__file__).parents[3]


def record(data=1, fsdp=1, tensor=1, accumulate=1, dtype='float32', parameters=800, **task):
  return {
    'topology': 'cpu:8',
    'device': 'cpu',
    'devices': 8,
    'command': 'python launch.py compile --config=toy --topology=cpu:8 --workdir=/home/me/x'
    ' --config.data.batch_size=16',
    'mesh': {'data': data, 'fsdp': fsdp, 'tensor': tensor},
    'config': {'task': task, 'model': {'dtype': dtype}, 'train': {'accumulate': accumulate}},
    'memory': {'parameters': parameters},
    'needs': 3 * 2**20,
    'limit': 2**30,
    'flops': 2e12,
    'estimate': {'least': 0.001, 'most': 0.002},
    'collectives': [
      {'axes': ['data'], 'sent': 2**20},
      {'axes': ['data'], 'sent': 2**21},
      {'axes': ['data', 'fsdp'], 'sent': 2**22},
    ],
  }


@pytest.mark.parametrize(
  'mesh, bytes_',
  [
    # A ring of 8 sends 2 x 7/8 of what a device holds.
    ({'data': 8}, 1400),
    ({'data': 8, 'dtype': 'bfloat16', 'accumulate': 4}, 1400),
    ({'data': 8, 'updates_per_step': 16}, 16 * 1400),
    # Of 8 parts of 800 bytes 7 arrive for each of two gathers, and 7 leave for the scatter.
    ({'fsdp': 8}, 3 * 7 * 800),
    ({'fsdp': 8, 'accumulate': 4, 'dtype': 'bfloat16'}, 4 * 3 * 7 * 800 / 2),
    ({'data': 4, 'fsdp': 2}, 2 * 3 / 4 * 800 + 3 * 800),
    ({'fsdp': 4, 'tensor': 2}, None),
  ],
)
def test_the_least_is_what_data_and_fsdp_must_send(mesh, bytes_):
  assert table.least(record(**mesh)) == bytes_


def test_a_kept_record_becomes_a_row(tmp_path):
  run = tmp_path / 'run'
  run.mkdir()
  (run / 'compile.json').write_text(json.dumps(record(data=8, parameters=2**22)))
  table.keep([str(run)], tmp_path)
  (path,) = (tmp_path / table.RESULTS).glob('*.json')
  kept = json.loads(path.read_text())
  assert kept['sent'] == {'data': 3 * 2**20, 'data+fsdp': 2**22}
  assert 'workdir' not in kept['command'] and 'config' not in kept
  row = '| toy `data.batch_size=16` | data=8 | 3 | data 3, data+fsdp 4 | 1.00 | 2 | 1 to 2 |'
  assert row in table.table(tmp_path)


def test_the_page_gets_the_table_between_its_markers(tmp_path):
  page = tmp_path / table.PAGE
  page.parent.mkdir()
  page.write_text('nothing')
  with pytest.raises(UserError, match='has no <!-- compile -->'):
    table.update(tmp_path)
  page.write_text('a\n<!-- compile -->\nold\n<!-- /compile -->\nb\n')
  assert table.update(tmp_path)
  assert not table.update(tmp_path)
  assert 'old' not in page.read_text()


def test_the_documentations_table_is_what_the_command_makes():
  opening, closing = table.MARKERS
  text = (ROOT / table.PAGE).read_text()
  assert text.partition(opening)[2].partition(closing)[0].strip() == table.table(ROOT).strip()
