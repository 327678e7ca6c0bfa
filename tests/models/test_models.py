"""The table of networks: complete, and read no sooner than needed."""

import importlib
import subprocess
import sys

import pytest

import models


def test_every_size_has_a_name():
  names = set(models.MODELS)
  for module in ('gpt', 'diffusion.dit', 'diffusion.unet', 'alphazero'):
    assert set(importlib.import_module(f'models.{module}').SIZES) <= names
  resnet = importlib.import_module('models.resnet')
  assert {f'resnet{depth}' for depth in resnet.IMAGENET_STAGES} <= names


@pytest.mark.parametrize('name', models.MODELS)
def test_every_name_has_a_constructor(name):
  assert callable(models.MODELS[name])


def test_lenet_loads_no_other_network():
  code = """
import sys, models
models.build('lenet5', num_classes=10)
loaded = {name for name in sys.modules if name.startswith('models.')}
assert 'models.lenet' in loaded
others = ('models.gpt', 'models.diffusion', 'models.resnet')
assert not any(name.startswith(others) for name in loaded), loaded
"""
  subprocess.run([sys.executable, '-c', code], check=True)


def test_arguments_that_a_network_has_not_are_named():
  with pytest.raises(ValueError, match=r"model.name='lenet5': got an unexpected keyword argument"):
    models.build('lenet5', num_classes=10, vocab_size=3)
  with pytest.raises(ValueError, match=r"model.name='lenet7': choose from lenet5, lenet"):
    models.build('lenet7')
