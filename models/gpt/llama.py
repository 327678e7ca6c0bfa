"""The layout of Llama's files, and of those that differ by a switch: Mistral, Qwen2, Qwen3.

Rotary positions, RMSNorm, SwiGLU, grouped queries (Touvron et al. 2023, arXiv 2302.13971 and
2307.09288); Qwen2 has biases on queries, keys and values, Qwen3 norms on queries and keys.
"""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from models.gpt import layout
from models.gpt.layout import LEAF_NAMES, Family, Path
from models.gpt.model import GPT
from models.gpt.parameters import head_width, layer_specs, mlp_width, num_kv_heads
from models.weights.checks import Settings, check_settings, shown

# Ours -> theirs in each layer.
LAYER_NAMES = {
  'norm1': 'input_layernorm',
  'query': 'self_attn.q_proj',
  'key': 'self_attn.k_proj',
  'value': 'self_attn.v_proj',
  'query_norm': 'self_attn.q_norm',
  'key_norm': 'self_attn.k_norm',
  'out': 'self_attn.o_proj',
  'norm2': 'post_attention_layernorm',
  'gate': 'mlp.gate_proj',
  'up': 'mlp.up_proj',
  'down': 'mlp.down_proj',
}

SETTINGS: Settings = {
  'hidden_act': ('silu', 'swish'),
  'attention_dropout': (0,),
  'use_sliding_window': (False, None),
  'rope_interleaved': (False, None),
  'partial_rotary_factor': (1, None),
  'tie_word_embeddings': (True, False),
  'mlp_bias': (False, True, None),
  'quantization_config': (None,),
}
SIZES: Mapping[str, Any] = {
  'vocab_size': ('vocab_size', {'qwen2': 151_936, 'qwen3': 151_936}, 32_000),
  'block_size': ('max_position_embeddings', {'llama': 2048, 'mistral': 131_072}, 32_768),
  'layers': ('num_hidden_layers', {}, 32),
  'heads': ('num_attention_heads', {}, 32),
  'width': ('hidden_size', {}, 4096),
  'mlp_width': ('intermediate_size', {'llama': 11_008, 'mistral': 14_336}, 22_016),
}
# The numbers of each `rope_type` beside the base, in the order of GPT's `rope_scaling`.
SCALINGS: Mapping[str, tuple[str, ...]] = {
  'default': (),
  'linear': ('factor',),
  'llama3': (
    *('factor', 'low_freq_factor', 'high_freq_factor'),
    'original_max_position_embeddings',
  ),
}
KINDS = ('llama', 'mistral', 'qwen2', 'qwen3')

# Settings that change nothing of what is computed, beside those that begin with '_'.
INERT = """
architectures model_type transformers_version dtype torch_dtype use_cache initializer_range
bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id decoder_start_token_id
pretraining_tp max_window_layers output_attentions output_hidden_states return_dict num_labels
return_dict_in_generate chunk_size_feed_forward is_encoder_decoder id2label label2id problem_type
tokenizer_class task_specific_params torchscript finetuning_task is_llama_config use_bfloat16
transformers.js_config unsloth_version unsloth_fixed attn_implementation model_max_length prefix
temperature top_p top_k typical_p do_sample max_length min_length repetition_penalty num_beams
num_return_sequences length_penalty diversity_penalty no_repeat_ngram_size early_stopping
"""
HONOURED = """
num_key_value_heads head_dim rms_norm_eps rope_theta rope_scaling rope_parameters sliding_window
layer_types attention_bias original_max_position_embeddings
"""
WANTED = {'positions': 'rope', 'norm': 'rms', 'mlp': 'swiglu', 'softcap': 0}


# -------- config.json --------


def check(path: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Raises ValueError for a setting that the model does not honour, or that is not known here."""
  check_settings(path, config, SETTINGS)
  known = {*INERT.split(), *HONOURED.split(), *SETTINGS, *(name for name, *_ in SIZES.values())}
  for name, value in config.items():
    if name not in known and not name.startswith('_') and value not in (None, False, [], {}):
      raise ValueError(
        f'{path}: {name}={shown(value)} is not supported; if it changes nothing of what is'
        ' computed, remove it from the file'
      )
  kinds = config.get('layer_types') or []
  if not isinstance(kinds, list) or any(kind != 'full_attention' for kind in kinds):
    only = "a list of 'full_attention'"
    raise ValueError(f'{path}: layer_types={shown(kinds)} is not supported, only {only}')
  if config['model_type'] == 'llama' and bias_of(config) != bool(config.get('mlp_bias')):
    raise ValueError(
      f'{path}: attention_bias={bias_of(config)} and mlp_bias={not bias_of(config)} are not'
      ' supported, only equal ones'
    )
  if config['model_type'] != 'llama' and bias_of(config):
    raise ValueError(f'{path}: attention_bias=True is not supported, only False')


def bias_of(config: Mapping[str, Any]) -> bool:
  """Returns whether all of attention's products have biases."""
  return bool(config.get('attention_bias'))


def fields(path: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns GPT's fields; what the file leaves out is as in transformers."""
  kind = config['model_type']
  found: dict[str, Any] = {
    ours: layout.size(path, config, name) or defaults.get(kind, default)
    for ours, (name, defaults, default) in SIZES.items()
  }
  window = layout.size(path, config, 'sliding_window') if kind == 'mistral' else None
  if window:  # within the window its attention is full
    found['block_size'] = min(found['block_size'], window)
  head = layout.size(path, config, 'head_dim') or (128 if kind == 'qwen3' else None)
  base, scaling = rotation(path, config)
  return {
    **found,
    'kv_heads': layout.size(path, config, 'num_key_value_heads'),
    'head_width': None if head is not None and head * found['heads'] == found['width'] else head,
    **{'positions': 'rope', 'norm': 'rms', 'mlp': 'swiglu'},
    'bias': bias_of(config),
    'qkv_bias': kind == 'qwen2',
    'qk_norm': kind == 'qwen3',
    'norm_epsilon': number(path, config, 'rms_norm_eps', 1e-6),
    'rope_base': base,
    'rope_scaling': scaling,
  }


def rotation(path: pathlib.Path, config: Mapping[str, Any]) -> tuple[float, tuple[float, ...]]:
  """Returns the base of the rotary positions, and `GPT.rope_scaling`.

  Raises:
    ValueError: they are scaled in another way than those of SCALINGS.
  """
  # transformers 5 calls `rope_parameters` what 4 called `rope_scaling`, and puts the base into it.
  name = next((n for n in ('rope_scaling', 'rope_parameters') if config.get(n)), 'rope_scaling')
  said = config.get(name) or {}
  if not isinstance(said, dict):
    raise ValueError(f'{path}: {name}={shown(said)} should be an object')
  base = number(path, {**config, **said}, 'rope_theta', 10_000.0)
  kind = said.get('rope_type', said.get('type', 'default'))
  if not isinstance(kind, str) or kind not in SCALINGS:
    choices = ', '.join(SCALINGS)
    raise ValueError(f'{path}: rope_type={shown(kind)} is not supported, only {choices}')
  # The original length has an effect on Llama's way alone.
  known = (*SCALINGS[kind], *('rope_type', 'type', 'rope_theta'), SCALINGS['llama3'][-1])
  for key, value in said.items():
    whole = key == 'partial_rotary_factor' and value == 1
    if key not in known and value is not None and not whole:
      raise ValueError(f'{path}: {name} has {key}={shown(value)}, which is not supported')
  numbers = tuple(number(path, {**config, **said}, key) for key in SCALINGS[kind])
  if kind == 'llama3' and not numbers[1] < numbers[2]:
    raise ValueError(f'{path}: low_freq_factor={numbers[1]} should be below high_freq_factor')
  return base, numbers


def number(
  path: pathlib.Path, config: Mapping[str, Any], name: str, default: float | None = None
) -> float:
  """Returns a positive number; raises ValueError for what is none, or missing without a default."""
  value = config.get(name, default)
  if type(value) not in (int, float) or not 0 < value < math.inf:
    raise ValueError(f'{path}: {name}={shown(value)} should be a positive number')
  return float(value)


def check_model(model: GPT) -> None:
  """Raises ValueError where none of these files can express the model."""
  layout.check_fields(model, 'Llama', WANTED)
  biased = [name for name in ('bias', 'qkv_bias') if getattr(model, name)]
  if model.qk_norm and biased:
    raise ValueError(f'model.qk_norm=True with model.{biased[0]}=True: no Llama file says both')


def config_of(model: GPT) -> dict[str, Any]:
  """Returns config.json as transformers 4 wrote it, which 5 reads."""
  kind = 'qwen3' if model.qk_norm else 'qwen2' if model.qkv_bias and not model.bias else 'llama'
  names = {'llama': 'Llama', 'qwen2': 'Qwen2', 'qwen3': 'Qwen3'}
  sizes = {name: getattr(model, ours) for ours, (name, *_) in SIZES.items()}
  types = ('default', 'linear', '', '', 'llama3')
  scaling: dict[str, Any] = {'rope_type': types[len(model.rope_scaling)]}
  scaling |= dict(zip(SCALINGS[scaling['rope_type']], model.rope_scaling, strict=True))
  if 'original_max_position_embeddings' in scaling:
    scaling['original_max_position_embeddings'] = int(model.rope_scaling[-1])
  return {
    'architectures': [f'{names[kind]}ForCausalLM'],
    'model_type': kind,
    **sizes,
    'intermediate_size': mlp_width(model),
    'num_key_value_heads': num_kv_heads(model),
    'head_dim': head_width(model),
    'hidden_act': 'silu',
    'rms_norm_eps': model.norm_epsilon,
    'rope_theta': model.rope_base,
    'rope_scaling': scaling if model.rope_scaling else None,
    'attention_bias': model.bias,
    'attention_dropout': 0.0,
    **({'mlp_bias': model.bias} if kind == 'llama' else {'use_sliding_window': False}),
  }


# -------- tensors --------


def table(model: GPT) -> dict[str, list[Path]]:
  """Returns their name of each of our arrays."""
  outer: dict[str, list[Path]] = {
    'embed_tokens.weight': [('token_embed', 'embedding')],
    'norm.weight': [('final_norm', 'scale')],
  }
  if not model.tied:
    outer['lm_head.weight'] = [('head', 'embedding')]
  for ours, leaves in layer_specs(model).items():
    for leaf in leaves:
      name = f'layers.{{}}.{LAYER_NAMES[ours]}.{LEAF_NAMES[leaf]}'
      outer[name] = [('blocks', ours, leaf)]
  return outer


FAMILY = Family(
  what='Llama',
  kinds=KINDS,
  prefix='model.',
  embedding='embed_tokens.weight',
  tied=False,
  transposed=True,
  biased=False,
  buffers=re.compile(r'layers\.\d+\.self_attn\.rotary_emb\.inv_freq'),  # in older files
  check=check,
  fields=fields,
  table=table,
  check_model=check_model,
  config=config_of,
)
