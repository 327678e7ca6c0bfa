"""A damaged folder of weights is refused by a ValueError of one line, or read as numbers."""

import json
import shutil

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from models.gpt import GPT, huggingface
from tests.fuzzing import fuzzed
from tests.models.gpt.test_huggingface import start
from tests.mutated import mutated

MODEL = GPT(5, block_size=16, layers=1, heads=1, width=2)
INDEX, SHARDS = 'model.safetensors.index.json', ('a.safetensors', 'b.safetensors')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """One file, and the same in two shards with an index."""
  root = tmp_path_factory.mktemp('whole')
  huggingface.to_hf(MODEL, start(MODEL), root)
  tensors = load_file(root / 'model.safetensors')
  places = {name: SHARDS[i % 2] for i, name in enumerate(sorted(tensors))}
  for shard in SHARDS:
    save_file({name: x for name, x in tensors.items() if places[name] == shard}, root / shard)
  (root / INDEX).write_text(json.dumps({'metadata': {}, 'weight_map': places}))
  return root


@st.composite
def damaged_tensors(draw, raw: bytes) -> bytes:
  """Draws a file of safetensors with another header, or other bytes anywhere."""
  size = int.from_bytes(raw[:8], 'little')
  if draw(st.booleans()):
    return draw(mutated(raw))
  header = draw(mutated(raw[8 : 8 + size]))
  return len(header).to_bytes(8, 'little') + header + raw[8 + size :]


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_safetensors_folders(folder, tmp_path_factory, data):
  root = tmp_path_factory.getbasetemp() / 'damaged'
  shutil.rmtree(root, ignore_errors=True)
  shutil.copytree(folder, root)
  if sharded := data.draw(st.booleans()):
    (root / 'model.safetensors').unlink()
  choices = ['config.json', *([INDEX, *SHARDS] if sharded else ['model.safetensors'])]
  for name in data.draw(st.lists(st.sampled_from(choices), min_size=1, max_size=2, unique=True)):
    kind = damaged_tensors if name.endswith('.safetensors') else mutated
    (root / name).write_bytes(data.draw(kind((folder / name).read_bytes())))
  try:
    model, variables = huggingface.from_hf(root)
  except ValueError as error:
    assert len(str(error).splitlines()) == 1
    return
  assert model.layers == 1
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(variables))
