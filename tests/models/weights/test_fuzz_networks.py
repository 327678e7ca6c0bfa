"""A damaged U-Net or DiT is refused by a ValueError of one line, or read as finite shapes."""

import shutil

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from models.weights import dit, unet
from models.weights.files import Files
from tests.fuzzing import fuzzed
from tests.mutated import mutated

pytestmark = pytest.mark.long


@pytest.fixture(scope='module')
def unet_folder(tmp_path_factory):
  diffusers = pytest.importorskip('diffusers')
  module = diffusers.UNet2DModel(
    sample_size=4,
    block_out_channels=(4,),
    down_block_types=('DownBlock2D',),
    up_block_types=('UpBlock2D',),
    layers_per_block=1,
    norm_num_groups=2,
    attention_head_dim=2,
  )
  root = tmp_path_factory.mktemp('unet')
  module.save_pretrained(root)
  return root


@pytest.fixture(scope='module')
def dit_tensors():
  pytest.importorskip('torch')
  from tests.models.weights.dit_of_the_authors import DiT

  state = DiT(width=64, heads=1, layers=1, size=4).state_dict()
  return {name: x.numpy() for name, x in state.items()}


def read(reader, path):
  """Reads a network, or returns None where it is refused."""
  try:
    files = Files(path)
    found = reader.read(files) if reader.recognises(files) else None
  except ValueError as error:
    assert len(str(error).splitlines()) == 1 and len(str(error)) < 2000
    return None
  return found


def is_small(network):
  return sum(x.size for x in jax.tree.leaves(network.variables)) < 1_000_000


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_unets(unet_folder, tmp_path_factory, data):
  root = tmp_path_factory.getbasetemp() / 'damaged unet'
  shutil.rmtree(root, ignore_errors=True)
  shutil.copytree(unet_folder, root)
  name = data.draw(st.sampled_from(['config.json', 'diffusion_pytorch_model.safetensors']))
  (root / name).write_bytes(data.draw(mutated((unet_folder / name).read_bytes())))
  if found := read(unet, root):
    assert is_small(found[0])


@st.composite
def other_tensors(draw, tensors):
  """Draws the tensors with one that is left out, renamed, or of another shape or type."""
  name = draw(st.sampled_from(sorted(tensors)))
  x = tensors[name]
  changed = dict(tensors)
  shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 7, *x.shape]), max_size=5))
  change = draw(st.sampled_from(['pop', 'rename', 'shape', 'dtype']))
  if change == 'shape':
    changed[name] = np.ones(shape, x.dtype)
  elif change == 'dtype':
    changed[name] = x.astype(draw(st.sampled_from(['f8', 'f2', 'i4', 'u1', '?'])))
  else:
    del changed[name]
    if change == 'rename':
      changed[name.replace('0', draw(st.sampled_from(['1', '9' * 30, '']))) + 'x'] = x
  return changed


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_dits(dit_tensors, tmp_path_factory, data):
  path = tmp_path_factory.getbasetemp() / 'damaged.safetensors'
  save_file(data.draw(other_tensors(dit_tensors)), path)
  if data.draw(st.booleans()):
    path.write_bytes(data.draw(mutated(path.read_bytes())))
  if found := read(dit, path):
    assert is_small(found[0])


def test_the_whole_ones_are_read(unet_folder, dit_tensors, tmp_path):
  assert read(unet, unet_folder) is not None
  save_file(dit_tensors, tmp_path / 'dit.safetensors')
  assert read(dit, tmp_path / 'dit.safetensors') is not None
  assert load_file(tmp_path / 'dit.safetensors').keys() == dit_tensors.keys()
