"""A damaged folder of a Llama is refused by a ValueError of one line, or read as numbers."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from models.gpt import GPT, huggingface
from tests.fuzzing import fuzzed
from tests.models.gpt.test_huggingface import start
from tests.mutated import mutated

MODEL = GPT(
  5, block_size=16, layers=1, heads=2, width=4, mlp_width=3,
  positions='rope', norm='rms', mlp='swiglu', bias=False, tied=False,
  rope_scaling=(8.0, 1.0, 4.0, 8.0),
)  # fmt: skip
VARIANTS = {'llama': {}, 'qwen2': {'qkv_bias': True}, 'qwen3': {'qk_norm': True}}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp('whole')
  for name, fields in VARIANTS.items():
    model = MODEL.clone(**fields)
    huggingface.to_hf(model, start(model), root / name)
  return root


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_llama_folders(folders, tmp_path_factory, data):
  whole = folders / data.draw(st.sampled_from(list(VARIANTS)))
  root = tmp_path_factory.getbasetemp() / 'damaged_llama'
  root.mkdir(exist_ok=True)
  for name in ('config.json', 'model.safetensors'):
    raw = (whole / name).read_bytes()
    is_damaged = name == 'config.json' or data.draw(st.booleans())
    (root / name).write_bytes(data.draw(mutated(raw)) if is_damaged else raw)
  try:
    model, variables = huggingface.from_hf(root)
  except ValueError as error:
    assert len(str(error).splitlines()) == 1
    return
  assert model.layers == 1
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(variables))
