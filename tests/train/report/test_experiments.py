"""README's table of the configs that have no recorded number."""

import json

from train.report import experiments

CONFIG = """
def get_config():
  return {{
    'task': {{'name': 'classify'}},
    'train': {{'steps': {steps}}},
    'paper': {{'title': 'He et al. 2015', 'metric': 'test/error', 'value': 0.0875}},
  }}
"""


def compiled(root, name, topology, seconds, *overrides, verb='train'):
  """Writes what `train.aot.table` keeps of a command."""
  command = ' '.join(['python launch.py compile', f'--config={name}', *overrides])
  record = {'command': command, 'verb': verb, 'devices': 8, 'device': f'chip of {topology}'}
  record |= {'estimate': {'least': seconds / 2, 'most': seconds}}
  folder = root / experiments.COMPILED
  folder.mkdir(parents=True, exist_ok=True)
  (folder / f'{name}.{topology}.{verb}{"".join(overrides)}.json').write_text(json.dumps(record))


def test_a_config_without_a_number_says_what_it_would_take(tmp_path):
  (tmp_path / 'configs').mkdir()
  for name, steps in (
    ('resnet', 60_000),
    ('lenet', 10),
    ('alexnet', 10),
    ('vgg', 1),
    ('__init__', 1),
  ):
    (tmp_path / 'configs' / f'{name}.py').write_text(CONFIG.format(steps=steps))
  compiled(tmp_path, 'resnet', 'v5e', 0.2)
  compiled(tmp_path, 'resnet', 'h100', 0.12, '--config.mesh.fsdp=2')
  compiled(tmp_path, 'alexnet', 'h100', 1e-6)
  # Another network or batch, and another verb: not what the config trains.
  compiled(tmp_path, 'resnet', 'h100', 0.01, '--config.model.name=resnet20')
  compiled(tmp_path, 'resnet', 'v6e', 0.01, '--config.mesh.fsdp=2', '--config.data.batch_size=8')
  compiled(tmp_path, 'resnet', 'h100', 0.01, verb='sample')
  records = [{'command': 'python launch.py train --config=configs/lenet.py --config.seed=1'}]
  alexnet, resnet, vgg = experiments.rows(tmp_path, records)
  paper = 'He et al. 2015', '8.75 % test error'
  # Whatever the devices do, a host has to start each step.
  assert alexnet == ('[alexnet](configs/alexnet.py)', *paper, '8 x chip of h100', '1 ms', '10 ms')
  times = '120 ms', '2 hours'
  assert resnet == ('[resnet](configs/resnet.py)', *paper, '8 x chip of h100', *times)
  assert vgg == ('[vgg](configs/vgg.py)', *paper, '–', '–', '–')
