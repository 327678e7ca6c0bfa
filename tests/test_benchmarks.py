"""Benchmarks name what they cannot measure, before they measure anything."""

import importlib
import sys

import pytest

from benchmarks import turns

REFUSED = (
  ('__main__', '--nets=lenet,vgg', "--nets: no 'vgg' here; choose from lenet, alexnet"),
  ('__main__', '--without=pool', "--without: no 'pool' here; choose from conv, dense"),
  ('gpt', '--cases=train', "--cases: no 'train' here; choose from train-4x128"),
  ('gpt', '--engines=huggingface', '--engines of train-4x128: '),
  ('layers', '--layers=lenet 1,x', "--layers: no 'x' here; choose from lenet 1"),
  ('word2vec', '--cases=x', "--cases: no 'x' here; choose from skipgram, cbow, hierarchical"),
  ('search', '--cases=x', "--cases: no 'x' here; choose from 9x9-128"),
  ('selfplay', '--cases=x', "--cases: no 'x' here; choose from"),
  ('diffusion', '--cases=x', "--cases: no 'x' here; choose from train, sample"),
  ('diffusion', '--engines=ours-plain', '--engines: needs ours, to which the others are compared'),
  ('input', '--cases=x', "--cases: no 'x' here; choose from images, windows, documents"),
  ('gan', '--nets=x', "--nets: no 'x' here; choose from gan, dcgan32, dcgan64"),
  ('memory', '--nets=x', "--nets: no 'x' here; choose from lenet"),
  ('go', '--batches=0', '0: must be at least 1'),
  ('layers', '--rounds=0', '0: must be at least 1'),
)


@pytest.mark.parametrize(('module', 'option', 'words'), REFUSED)
def test_what_no_benchmark_knows_is_named_with_the_choices(
  module, option, words, monkeypatch, capsys
):
  monkeypatch.setattr(sys, 'argv', ['x', option])
  with pytest.raises(SystemExit) as ended:
    importlib.import_module(f'benchmarks.{module}').main()
  assert ended.value.code == 2 and words in capsys.readouterr().err


def test_ratios_are_of_neighbouring_rounds():
  found = turns.ratios([2.0, 8.0, 3.0], [1.0, 2.0, 3.0])
  assert found['ratio'] == 2 and found['ratio_p10'] < 2 < found['ratio_p90']
