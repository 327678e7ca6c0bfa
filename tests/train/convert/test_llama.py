"""A Llama of transformers' layout as a run folder, and back, with its tokenizer."""

import json

import jax
import pytest

from models.gpt import GPT, huggingface
from tests.data.text import small_tokenizers
from tests.models.gpt.test_huggingface import assert_same, start
from train import convert, verbs
from train.errors import UserError

pytestmark = pytest.mark.usefixtures('one_device')


@pytest.fixture
def folder(tmp_path):
  """A Qwen2 of more rows than tokens, whose texts may be longer than a row of a run."""
  library = small_tokenizers.written('llama2', tmp_path / 'in')
  model = GPT(
    library.get_vocab_size() + 3, block_size=4096, layers=1, heads=2, width=8, kv_heads=1,
    mlp_width=12, positions='rope', norm='rms', mlp='swiglu', bias=False, qkv_bias=True,
    norm_epsilon=1e-6, rope_base=1e6,
  )  # fmt: skip
  small = start(model.clone(block_size=16))  # rotary positions have no parameters
  huggingface.to_hf(model, small, tmp_path / 'in', eos_token_id=2)
  return tmp_path / 'in'


def test_a_run_of_it_computes_and_keeps_the_same(folder, tmp_path, capsys):
  workdir, out = str(tmp_path / 'run'), tmp_path / 'out'
  convert.import_weights(str(folder), workdir)
  assert '276 tokens, 273 in its tokenizer' in capsys.readouterr().out
  run = verbs.load_run(workdir)
  model, variables = huggingface.from_hf(folder)
  assert run.task.model == model.clone(vocab_size=273, vocab_multiple=4)
  assert run.task.data.block_size == 1024 and run.task.data.tokenizer.bos == 1
  assert_same(jax.device_get(run.variables), variables)
  convert.export_hf(workdir, str(out))
  back, _ = huggingface.from_hf(out)
  assert back == model.clone(vocab_size=273)
  config = json.loads((out / 'config.json').read_text())
  assert (config['bos_token_id'], config['eos_token_id']) == (1, 2)
  assert (out / 'tokenizer.json').read_text() == (folder / 'tokenizer.json').read_text()


def test_another_kind_is_named_with_those_that_are_read(folder, tmp_path):
  path = folder / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), 'model_type': 'qwen9'}))
  with pytest.raises(UserError, match=r"model_type='qwen9'") as error:
    convert.import_weights(str(folder), str(tmp_path / 'run'))
  assert '\n' not in str(error.value)
