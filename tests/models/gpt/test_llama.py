"""Llama's layout in and out: the logits are transformers', whatever the config says."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models import attention
from models.gpt import GPT, huggingface
from tests.models.gpt.test_huggingface import edit_config, rewrite, start

SIZES = {
  **{'vocab_size': 37, 'max_position_embeddings': 16, 'hidden_size': 12, 'intermediate_size': 20},
  **{'num_hidden_layers': 2, 'num_attention_heads': 2, 'num_key_value_heads': 1},
}
MODEL = GPT(
  37, block_size=16, layers=2, heads=2, width=12, kv_heads=1, mlp_width=20,
  positions='rope', norm='rms', mlp='swiglu', bias=False, tied=False, norm_epsilon=1e-6,
)  # fmt: skip
TOKENS = np.random.default_rng(0).integers(37, size=(2, 16), dtype=np.int32)
LLAMA3 = {
  **{'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0},
  'original_max_position_embeddings': 8,
}


@pytest.fixture
def folder(tmp_path):
  """Our own export of MODEL; tests edit its files."""
  huggingface.to_hf(MODEL, start(MODEL), tmp_path)
  return tmp_path


def logits(model, variables):
  return np.asarray(jax.jit(model.apply)(variables, TOKENS))


# -------- against transformers --------


def their_model(kind: str, **settings):
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  config = transformers.AutoConfig.for_model(kind, **{**SIZES, **settings})
  model = transformers.AutoModelForCausalLM.from_config(config).eval()
  with torch.no_grad():  # biases and scales begin as zeros and ones
    for parameter in model.parameters():
      parameter.add_(0.2 * torch.randn_like(parameter))
  return model


def their_logits(model):
  torch = pytest.importorskip('torch')
  with torch.no_grad():
    return model(torch.tensor(TOKENS, dtype=torch.int64)).logits.float().numpy()


CASES = [
  ('llama', {}),
  ('llama', {'tie_word_embeddings': True, 'rms_norm_eps': 0.1, 'rope_theta': 100.0}),
  ('llama', {'attention_bias': True, 'mlp_bias': True, 'num_key_value_heads': 2}),
  ('llama', {'rope_scaling': LLAMA3, 'head_dim': 8}),
  ('llama', {'rope_scaling': {'rope_type': 'linear', 'factor': 4.0}}),
  ('qwen2', {'tie_word_embeddings': True, 'rope_theta': 1e6}),
  ('qwen3', {'head_dim': 8}),
  ('mistral', {'sliding_window': 16}),
]


@pytest.mark.long
@pytest.mark.parametrize('kind, settings', CASES)
def test_what_transformers_wrote_computes_the_same(kind, settings, tmp_path):
  theirs = their_model(kind, **settings)
  theirs.save_pretrained(tmp_path / 'in', max_shard_size='6KB')
  model, variables = huggingface.from_hf(tmp_path / 'in')
  np.testing.assert_allclose(logits(model, variables), their_logits(theirs), atol=1e-4)
  # And back: what is written is what transformers loads.
  huggingface.to_hf(model, variables, tmp_path / 'out')
  transformers = pytest.importorskip('transformers')
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'out').eval()
  np.testing.assert_allclose(their_logits(again), their_logits(theirs), atol=1e-5)
  back, read = huggingface.from_hf(tmp_path / 'out')
  assert back == model
  jax.tree.map(np.testing.assert_array_equal, read, variables)


def random_case(seed: int):
  """Returns a kind and settings of config.json, all drawn at random."""
  draw = np.random.default_rng(seed)
  kind = str(draw.choice(['llama', 'mistral', 'qwen2', 'qwen3']))
  heads, groups, head = (int(draw.choice(x)) for x in ([2, 4], [1, 2], [4, 6, 8]))
  scalings = [None, {'rope_type': 'linear', 'factor': 2.5}, {**LLAMA3, 'factor': 3.0}]
  bias = kind == 'llama' and bool(draw.integers(2))
  return kind, {
    **{'num_attention_heads': heads, 'num_key_value_heads': heads // groups},
    'hidden_size': heads * head if kind == 'qwen2' else heads * int(draw.choice([4, head])),
    'head_dim': head,
    'intermediate_size': int(draw.integers(8, 40)),
    'num_hidden_layers': int(draw.integers(1, 4)),
    'rope_theta': float(10 ** draw.uniform(2, 6)),
    'rope_scaling': scalings[draw.integers(3)],
    'rms_norm_eps': float(10 ** draw.uniform(-6, -1)),
    'tie_word_embeddings': bool(draw.integers(2)),
    **({'attention_bias': bias, 'mlp_bias': bias} if kind == 'llama' else {}),
    **({'sliding_window': None} if kind == 'mistral' else {}),
  }


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(20))
def test_any_config_computes_the_same(seed, tmp_path):
  test_what_transformers_wrote_computes_the_same(*random_case(seed), tmp_path)


# -------- without transformers --------


@pytest.mark.parametrize(
  'changed',
  [
    {},
    {'tied': True, 'kv_heads': None, 'rope_base': 5e5, 'norm_epsilon': 1e-5},
    {'qkv_bias': True, 'rope_scaling': (8.0, 1.0, 4.0, 8.0)},
    {'qk_norm': True, 'head_width': 8, 'rope_scaling': (4.0,)},
    {'bias': True, 'vocab_multiple': 64},
  ],
)
def test_what_is_written_is_read_again(changed, tmp_path):
  model = MODEL.clone(**changed)
  variables = start(model)
  huggingface.to_hf(model, variables, tmp_path)
  back, read = huggingface.from_hf(tmp_path)
  assert back == model.clone(kv_heads=model.kv_heads or 2, vocab_multiple=1)
  rows = variables['params']['token_embed']['embedding'][:37]
  np.testing.assert_array_equal(read['params']['token_embed']['embedding'], rows)
  jax.tree.map(
    np.testing.assert_array_equal, read['params']['blocks'], variables['params']['blocks']
  )


def test_kernels_lie_the_other_way_round(folder):
  tensors = load_file(folder / 'model.safetensors')
  up = start(MODEL)['params']['blocks']['up']['kernel'][1]
  np.testing.assert_array_equal(tensors['model.layers.1.mlp.up_proj.weight'], up.T)


def test_rates_are_slowed_below_a_number_of_turns():
  """A pair that turns 8 times in 100 tokens stays, one of 1 turn slows down, between a mixture."""
  rates = np.float32(2 * np.pi / 100) * np.array([8, 4, 2.5, 1, 0.5], np.float32)
  found = attention.scaled_rates(rates, (10, 1, 4, 100)) / rates
  np.testing.assert_allclose(found, [1, 1, 0.5 + 0.5 / 10, 0.1, 0.1], rtol=1e-5)
  np.testing.assert_allclose(attention.scaled_rates(rates, (4,)), rates / 4, rtol=1e-6)


@pytest.mark.parametrize(
  'settings, fields',
  [
    ({'rope_theta': 7.0, 'rope_scaling': None}, {'rope_base': 7.0}),
    ({'rope_parameters': {'rope_theta': 7.0, 'rope_type': 'default'}}, {'rope_base': 7.0}),
    ({'rope_scaling': {'type': 'linear', 'factor': 2}}, {'rope_scaling': (2.0,)}),
    ({'rms_norm_eps': 1e-5, 'head_dim': None}, {'norm_epsilon': 1e-5}),
    ({'model_type': 'mistral', 'sliding_window': 8, 'mlp_bias': None}, {'block_size': 8}),
    ({'model_type': 'mistral', 'sliding_window': None}, {'block_size': 16}),
    ({'sliding_window': 8}, {'block_size': 16}),
    ({'_attn_implementation_autoset': True, 'transformers.js_config': {'dtype': 'q4'}}, {}),
    ({'is_llama_config': True, 'rope_interleaved': False, 'pretraining_tp': 2}, {}),
  ],
)
def test_what_a_config_says_is_honoured(settings, fields, folder):
  edit_config(folder, **settings)
  assert huggingface.from_hf(folder)[0] == MODEL.clone(**fields)


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'hidden_act': 'gelu'}, r"hidden_act='gelu' is not supported, only 'silu', 'swish'"),
    ({'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}}, r"rope_type='yarn' is not supported,"),
    ({'rope_scaling': {'type': 'dynamic', 'factor': 4.0}}, r"rope_type='dynamic' is not support"),
    ({'rope_scaling': {'type': 'linear'}}, r'factor=None should be a positive number'),
    ({'rope_scaling': {**LLAMA3, 'high_freq_factor': 1}}, r'low_freq_factor=1.0 should be below'),
    (
      {'rope_scaling': {'mrope_section': [1, 2]}},
      r'rope_scaling has mrope_section=\[1, 2\], which',
    ),
    ({'rope_scaling': [1]}, r'rope_scaling=\[1\] should be an object'),
    ({'rope_theta': -1}, r'rope_theta=-1 should be a positive number'),
    ({'rms_norm_eps': '1e-6'}, r"rms_norm_eps='1e-6' should be a positive number"),
    ({'attention_bias': True}, r'attention_bias=True and mlp_bias=False are not supported'),
    ({'model_type': 'qwen2', 'use_sliding_window': True}, r'use_sliding_window=True is not supp'),
    ({'layer_types': ['full_attention', 'sliding_attention']}, r'layer_types=.*is not supported'),
    ({'layer_types': 3}, r'layer_types=3 is not supported'),
    ({'partial_rotary_factor': 0.5}, r'partial_rotary_factor=0.5 is not supported, only 1'),
    ({'quantization_config': {'bits': 4}}, r'quantization_config=.* is not supported'),
    ({'logit_scale': 0.06}, r'logit_scale=0.06 is not supported; if it changes nothing'),
    ({'num_local_experts': 8}, r'num_local_experts=8 is not supported'),
    ({'attention_dropout': 0.1}, r'attention_dropout=0.1 is not supported, only 0'),
    ({'model_type': 'gemma2'}, r"model_type='gemma2' is not supported, only 'gpt2', 'llama', 'mis"),
    ({'num_attention_heads': 5, 'head_dim': None}, r'model.heads=5: must divide model.width=12'),
    (
      {'num_key_value_heads': 2},
      r'k_proj.weight is of shape \(6, 12\), of a Llama of its config.json it should',
    ),
    ({'model_type': 'qwen2'}, r'lacks layers.0.self_attn.q_proj.bias'),
    ({'model_type': 'qwen3'}, r'lacks layers.0.self_attn.q_norm.weight'),
  ],
)
def test_settings_that_are_not_honoured_are_refused_by_name(settings, message, folder):
  edit_config(folder, **settings)
  with pytest.raises(ValueError, match=message) as error:
    huggingface.from_hf(folder)
  assert '\n' not in str(error.value)


def test_old_buffers_and_files_of_a_base_model_are_read(folder):
  def edit(tensors):
    for name in list(tensors):
      tensors[name.removeprefix('model.')] = tensors.pop(name)
    tensors['layers.0.self_attn.rotary_emb.inv_freq'] = np.ones(3, 'f4')

  rewrite(folder, edit)
  jax.tree.map(np.testing.assert_array_equal, huggingface.from_hf(folder)[1], start(MODEL))


def test_a_foreign_tensor_is_named(folder):
  tensors = load_file(folder / 'model.safetensors')
  save_file({**tensors, 'score.weight': np.ones(3, 'f4')}, folder / 'model.safetensors')
  with pytest.raises(ValueError, match=r'holds score.weight, which a Llama of its config.json has'):
    huggingface.from_hf(folder)


@pytest.mark.parametrize(
  'changed, message',
  [
    ({'norm': 'layer'}, r"model.norm='layer': Llama files can only say 'rms'"),
    ({'mlp': 'gelu'}, r"model.mlp='gelu': Llama files can only say 'swiglu'"),
    ({'softcap': 30.0}, r'model.softcap=30.0: Llama files can only say 0'),
    ({'qk_norm': True, 'bias': True}, r'model.qk_norm=True with model.bias=True: no Llama file'),
  ],
)
def test_models_that_llama_files_cannot_say_are_refused(changed, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    huggingface.to_hf(MODEL.clone(**changed), {'params': {}}, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_config_json_is_what_transformers_wrote_before_5(folder):
  """Its readers of today take both forms of the rotary base."""
  config = json.loads((folder / 'config.json').read_text())
  assert config['model_type'] == 'llama' and config['rope_theta'] == 10_000.0
  assert config['architectures'] == ['LlamaForCausalLM'] and config['head_dim'] == 6
