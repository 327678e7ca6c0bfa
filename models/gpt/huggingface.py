"""Reads and writes GPT-2 weights in Hugging Face's layout: config.json and safetensors.

Kernels lie there as `[in, out]`, as here; queries, keys and values share one, side by side. Neither
torch nor transformers is needed.
"""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from models.gpt.model import GPT, QKV, RUNTIME_FIELDS
from models.gpt.parameters import specs
from models.transformer import unboxed
from models.weights.safetensors_folder import Tensor, check_floats, read_folder, read_json

# Ours -> theirs in each layer; `attn.c_attn` is apart.
LAYER_NAMES = {
  'norm1': 'ln_1',
  'out': 'attn.c_proj',
  'norm2': 'ln_2',
  'up': 'mlp.c_fc',
  'down': 'mlp.c_proj',
}
LEAF_NAMES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}

# Masks that older files hold beside the parameters.
BUFFERS = re.compile(r'h\.\d+\.attn\.(bias|masked_bias)')

# The settings that change what is computed -> the values that the model honours.
SETTINGS: Mapping[str, tuple[Any, ...]] = {
  'model_type': ('gpt2',),
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


def from_hf(path: str | pathlib.Path, **overrides: Any) -> tuple[GPT, dict[str, Any]]:
  """Returns the model and its variables (float32, in NumPy) of a folder that transformers wrote.

  Args:
    path: the folder.
    **overrides: some of RUNTIME_FIELDS, such as `dtype='bfloat16'`.

  Raises:
    ValueError: a file is missing or cut short, a tensor is missing, unknown or of another shape
      than config.json says, or a setting is one that the model does not honour.
  """
  folder = pathlib.Path(path)
  config = read_json(folder / 'config.json')
  if wrong := [name for name in overrides if name not in RUNTIME_FIELDS]:
    raise ValueError(f'{wrong[0]}={overrides[wrong[0]]!r}: choose from {", ".join(RUNTIME_FIELDS)}')
  check_settings(folder, config)
  tensors = {name: x for name, x in read_folder(folder).items() if not BUFFERS.fullmatch(name)}
  check_floats(folder, tensors)
  tied = is_tied(config, tensors)
  if tied and 'lm_head.weight' in tensors:  # of two names of one tensor a file may hold either
    tensors.setdefault('wte.weight', tensors['lm_head.weight'])
  fields = fields_of(folder, config, tied=tied)
  model = GPT(**{**fields, **overrides})
  return model, {'params': to_ours(model, tensors, folder)}


def to_hf(model: GPT, variables: Any, path: str | pathlib.Path, **config: Any) -> None:
  """Writes config.json and model.safetensors (float32), which transformers loads.

  Of variables that are float32 in the host's memory only queries, keys and values are copied on the
  way, a quarter of the layers.

  Args:
    model: a GPT that GPT-2's files can express.
    variables: its variables.
    path: the folder.
    **config: more of config.json, such as `eos_token_id`.

  Raises:
    ValueError: GPT-2's layout cannot express the model.
  """
  check_exportable(model)
  folder = pathlib.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = to_theirs(model, unboxed(variables['params']))
  text = json.dumps({**config_of(model), **config}, indent=2)
  (folder / 'config.json').write_text(f'{text}\n')
  unfinished = folder / 'model.safetensors.tmp'
  save_file(tensors, unfinished, metadata={'format': 'pt'})
  shutil.copymode(folder / 'config.json', unfinished)  # the library lets only its owner read it
  os.replace(unfinished, folder / 'model.safetensors')


# -------- config.json --------


def check_settings(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Raises ValueError for a setting that the model does not honour."""
  for name, honoured in SETTINGS.items():
    if (value := config.get(name, honoured[0])) not in honoured:
      choices = ', '.join(repr(choice) for choice in honoured)
      raise ValueError(
        f'{folder}/config.json: {name}={shown(value)} is not supported, only {choices}'
      )


def fields_of(folder: pathlib.Path, config: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
  """Returns GPT's fields; what the file leaves out is as in transformers."""
  path = folder / 'config.json'
  fields = {
    ours: size(path, config, *names) or default for ours, (default, *names) in SIZES.items()
  }
  if not any(name in config for name in SIZES['block_size'][1:]):  # only old files have n_ctx alone
    fields['block_size'] = size(path, config, 'n_ctx') or fields['block_size']
  rates = {name: config.get(name, 0.1) for name in DROPOUTS}
  rate = rates['resid_pdrop']
  if any(type(x) not in (int, float) or x != rate for x in rates.values()):
    said = ', '.join(f'{name}={shown(rate)}' for name, rate in rates.items())
    raise ValueError(f'{path}: {said} are not supported, only equal ones')
  inner = size(path, config, 'n_inner')
  inner = None if inner == 4 * fields['width'] else inner
  return {**fields, 'dropout': rate, 'mlp_width': inner, 'tied': tied}


def size(path: pathlib.Path, config: Mapping[str, Any], *names: str) -> int | None:
  """Returns the number that has one of the names, of which the first wins; None: the file has none.

  Raises:
    ValueError: it is no whole number from 1 to 2^31 - 1, or two names say two numbers.
  """
  found = {name: config[name] for name in names if config.get(name) is not None}
  for name, value in found.items():
    if type(value) is not int or not 0 < value < 2**31:
      raise ValueError(f'{path}: {name}={shown(value)} should be a whole number of at least 1')
  if len(set(found.values())) > 1:
    said = ', '.join(f'{name}={value}' for name, value in found.items())
    raise ValueError(f'{path}: {said} contradict each other')
  return next(iter(found.values()), None)


def shown(value: Any) -> str:
  """Returns the beginning of a value's repr."""
  return text if len(text := repr(value)) <= 60 else f'{text[:60]}...'


def check_exportable(model: GPT) -> None:
  """Raises ValueError where GPT-2's files cannot express the model."""
  if type(model) is not GPT:  # a subclass may compute something else with the same weights
    raise ValueError(f'{type(model).__name__}: GPT-2 files can only say GPT')
  wanted = {'positions': 'learned', 'norm': 'layer', 'mlp': 'gelu', 'qk_norm': False, 'softcap': 0}
  for name, value in wanted.items():
    if getattr(model, name) != value:
      raise ValueError(f'model.{name}={getattr(model, name)!r}: GPT-2 files can only say {value!r}')
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
    'tie_word_embeddings': model.tied,
    **{name: model.dropout for name in DROPOUTS},
    'dtype': 'float32',
    'torch_dtype': 'float32',
  }


# -------- tensors --------


def is_tied(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
  """Returns what config.json says, unless the files hold a head that is not the embedding."""
  head, embedding = tensors.get('lm_head.weight'), tensors.get('wte.weight')
  if not config.get('tie_word_embeddings', True):
    return False
  return head is None or embedding is None or np.array_equal(head, embedding)


Path = tuple[str, ...]


def layout(model: GPT) -> dict[str, tuple[list[Path], tuple[int, ...]]]:
  """Maps their name (`{}` for a layer's number) to our paths, side by side, and a shape."""
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
  table = specs(model.clone(bias=True, vocab_multiple=1))
  return {name: (paths, shape_of(table, paths)) for name, paths in outer.items()}


def shape_of(table: Any, paths: Sequence[Path]) -> tuple[int, ...]:
  """Returns the shape of the arrays side by side along the last axis; of one layer if stacked."""
  shapes = [look_up(table, path)[0] for path in paths]
  *rest, _ = shapes[0]
  whole = (*rest, sum(shape[-1] for shape in shapes))
  return whole[1:] if paths[0][0] == 'blocks' else whole


def look_up(tree: Any, path: Path) -> Any:
  """Returns the leaf at that path, or None."""
  for name in path:
    tree = tree.get(name) if isinstance(tree, Mapping) else None
  return tree


def to_ours(model: GPT, tensors: dict[str, Tensor], folder: pathlib.Path) -> dict[str, Any]:
  """Returns our tree of parameters, float32; each tensor is read when it is stacked."""
  if model.tied:
    tensors = {name: x for name, x in tensors.items() if name != 'lm_head.weight'}
  known = layout(model)
  check_tensors(folder, tensors, model.layers, known)
  params: dict[str, Any] = {}
  for name, (paths, shape) in known.items():
    if '{}' in name:
      whole = np.empty((model.layers, *shape), np.float32)
      for i in range(model.layers):
        whole[i] = tensors[name.format(i)]
    else:
      whole = np.asarray(tensors[name], np.float32)
    for path, own in zip(paths, np.split(whole, len(paths), axis=-1), strict=True):
      put(params, path, np.ascontiguousarray(own))
  return params


def put(tree: dict[str, Any], path: Path, leaf: Any) -> None:
  """Sets the leaf at that path of nested dicts."""
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = leaf


def check_tensors(folder, tensors: Mapping[str, Tensor], layers: int, known: Any) -> None:
  """Raises ValueError for the first tensor that is missing, unknown, or not of its shape."""
  if layers > len(tensors):  # before a name is made for each of them
    raise ValueError(f'{folder}: holds {len(tensors)} tensors, too few for n_layer={layers}')
  shapes = {
    name.format(i): shape
    for name, (_, shape) in known.items()
    for i in (range(layers) if '{}' in name else (0,))
  }
  if missing := [name for name in shapes if name not in tensors]:
    raise ValueError(f'{folder}: lacks {some(missing)}')
  if unknown := [name for name in tensors if name not in shapes]:
    raise ValueError(f'{folder}: holds {some(unknown)}, which a GPT-2 of its config.json has not')
  for name, shape in shapes.items():
    if (found := tensors[name].shape) != shape:
      raise ValueError(f'{folder}: {name} is of shape {found}, by config.json it should be {shape}')


def some(names: Sequence[str]) -> str:
  """Returns the first three names, and how many more there are."""
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return ', '.join(names[:3]) + more


def to_theirs(model: GPT, params: Any) -> dict[str, np.ndarray]:
  """Returns their tensors by name, float32: views of the parameters where layouts agree."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
  tensors = {}
  for name, (paths, shape) in layout(model).items():
    for i in range(model.layers) if '{}' in name else (None,):
      prefix = '' if name == 'lm_head.weight' else 'transformer.'
      tensors[prefix + name.format(i)] = joined(params, paths, i, shape)
  return tensors


def joined(params: Any, paths: Sequence[Path], layer: int | None, shape: tuple[int, ...]) -> Any:
  """Returns one layer's arrays side by side; zeros for biases that the model does not have."""
  found = [look_up(params, path) for path in paths]
  if found[0] is None:
    return np.zeros(shape, np.float32)
  own = [x if layer is None else x[layer] for x in found]
  whole = own[0] if len(own) == 1 else np.concatenate(own, axis=-1)
  return np.ascontiguousarray(whole[: shape[0]])  # without rows that fill up the vocabulary
