"""The layout of GPT-2's files: config.json, and tensors by name.

Kernels lie there as `[in, out]`, as here; queries, keys and values share one, side by side.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from models.gpt import layout
from models.gpt.layout import LEAF_NAMES, Family, Path
from models.gpt.model import GPT, QKV
from models.weights.checks import Settings, check_settings, shown

# Ours -> theirs in each layer; `attn.c_attn` is apart.
LAYER_NAMES = {
  'norm1': 'ln_1',
  'out': 'attn.c_proj',
  'norm2': 'ln_2',
  'up': 'mlp.c_fc',
  'down': 'mlp.c_proj',
}

SETTINGS: Settings = {
  'activation_function': ('gelu_new', 'gelu_pytorch_tanh', 'gelu_fast'),
  'layer_norm_epsilon': (1e-5,),
  'scale_attn_weights': (True,),
  'scale_attn_by_inverse_layer_idx': (False,),
  'add_cross_attention': (False,),
  'quantization_config': (None,),
  'pruned_heads': (None, {}),
  'tie_word_embeddings': (True, False),
}
# GPT's fields -> transformers' defaults, and their names in config.json.
SIZES: Mapping[str, Any] = {
  'vocab_size': (50_257, 'vocab_size'),
  'block_size': (1024, 'n_positions', 'max_position_embeddings'),
  'layers': (12, 'n_layer', 'num_hidden_layers'),
  'heads': (12, 'n_head', 'num_attention_heads'),
  'width': (768, 'n_embd', 'hidden_size'),
}
DROPOUTS = ('resid_pdrop', 'embd_pdrop', 'attn_pdrop')
# What the files cannot say otherwise; of biases they say zeros.
WANTED = {
  **{'positions': 'learned', 'norm': 'layer', 'mlp': 'gelu', 'qk_norm': False, 'softcap': 0},
  **{'norm_epsilon': 1e-5, 'head_width': None},
}


def check(path: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Raises ValueError for a setting that the model does not honour."""
  check_settings(path, config, SETTINGS)


def fields(path: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns GPT's fields; what the file leaves out is as in transformers."""
  found = {
    ours: layout.size(path, config, *names) or default for ours, (default, *names) in SIZES.items()
  }
  if not any(name in config for name in SIZES['block_size'][1:]):  # only old files have n_ctx alone
    found['block_size'] = layout.size(path, config, 'n_ctx') or found['block_size']
  rates = {name: config.get(name, 0.1) for name in DROPOUTS}
  rate = rates['resid_pdrop']
  if any(type(x) not in (int, float) or x != rate for x in rates.values()):
    said = ', '.join(f'{name}={shown(rate)}' for name, rate in rates.items())
    raise ValueError(f'{path}: {said} are not supported, only equal ones')
  inner = layout.size(path, config, 'n_inner')
  return {**found, 'dropout': rate, 'mlp_width': None if inner == 4 * found['width'] else inner}


def check_model(model: GPT) -> None:
  """Raises ValueError where GPT-2's files cannot express the model."""
  layout.check_fields(model, 'GPT-2', WANTED)
  if model.kv_heads not in (None, model.heads):
    raise ValueError(f'model.kv_heads={model.kv_heads}: GPT-2 files can only say {model.heads}')


def config_of(model: GPT) -> dict[str, Any]:
  """Returns config.json as transformers writes it."""
  return {
    'architectures': ['GPT2LMHeadModel'],
    'model_type': 'gpt2',
    'vocab_size': model.vocab_size,
    'n_positions': model.block_size,
    'n_ctx': model.block_size,
    'n_layer': model.layers,
    'n_head': model.heads,
    'n_embd': model.width,
    'n_inner': model.mlp_width,
    'activation_function': 'gelu_new',
    'layer_norm_epsilon': 1e-5,
    **{name: model.dropout for name in DROPOUTS},
  }


def table(model: GPT) -> dict[str, list[Path]]:
  """Returns their name of each of our arrays."""
  outer: dict[str, list[Path]] = {
    'wte.weight': [('token_embed', 'embedding')],
    'wpe.weight': [('position_embed', 'embedding')],
    'ln_f.weight': [('final_norm', 'scale')],
    'ln_f.bias': [('final_norm', 'bias')],
  }
  if not model.tied:
    outer['lm_head.weight'] = [('head', 'embedding')]
  for ours, theirs in LAYER_NAMES.items():
    for leaf in ('scale' if theirs.startswith('ln') else 'kernel', 'bias'):
      outer[f'h.{{}}.{theirs}.{LEAF_NAMES[leaf]}'] = [('blocks', ours, leaf)]
  for leaf in ('kernel', 'bias'):
    outer[f'h.{{}}.attn.c_attn.{LEAF_NAMES[leaf]}'] = [('blocks', name, leaf) for name in QKV]
  return outer


FAMILY = Family(
  what='GPT-2',
  kinds=('gpt2',),
  prefix='transformer.',
  embedding='wte.weight',
  tied=True,
  transposed=False,
  biased=True,
  buffers=re.compile(r'h\.\d+\.attn\.(bias|masked_bias)'),  # masks, in older files
  check=check,
  fields=fields,
  table=table,
  check_model=check_model,
  config=config_of,
)
