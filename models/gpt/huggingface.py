"""Reads and writes language models in Hugging Face's layout: config.json and safetensors.

`gpt2.py` and `llama.py` say what the files of each family are. Neither torch nor transformers is
needed.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from models.gpt import gpt2, layout, llama
from models.gpt.layout import Family
from models.gpt.model import GPT, RUNTIME_FIELDS
from models.transformer import unboxed
from models.weights.checks import shown
from models.weights.files import Files, Tensor, without_prefix
from models.weights.safetensors_folder import check_floats, read_json

FAMILIES = (gpt2.FAMILY, llama.FAMILY)
KINDS = tuple(kind for family in FAMILIES for kind in family.kinds)

# Those of a GPT that such files decide, but for its vocabulary.
FIELDS = (
  *('layers', 'heads', 'width', 'block_size', 'kv_heads', 'head_width', 'mlp_width'),
  *('positions', 'rope_base', 'rope_scaling', 'norm', 'norm_epsilon', 'mlp'),
  *('bias', 'qkv_bias', 'qk_norm', 'tied', 'dropout'),
)


def is_language_model(path: str | pathlib.Path) -> bool:
  """Returns whether the folder's config.json says one of KINDS, or no kind at all."""
  return read_json(pathlib.Path(path) / 'config.json').get('model_type', 'gpt2') in KINDS


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
  file, config = folder / 'config.json', read_json(folder / 'config.json')
  if wrong := [name for name in overrides if name not in RUNTIME_FIELDS]:
    raise ValueError(f'{wrong[0]}={overrides[wrong[0]]!r}: choose from {", ".join(RUNTIME_FIELDS)}')
  family = family_of(file, config)
  family.check(file, config)
  tensors = tensors_of(family, folder)
  tied = is_tied(family, config, tensors)
  if tied and 'lm_head.weight' in tensors:  # of two names of one tensor a file may hold either
    tensors.setdefault(family.embedding, tensors['lm_head.weight'])
  model = GPT(**{**family.fields(file, config), 'tied': tied, **overrides})
  return model, {'params': layout.to_ours(family, model, tensors, folder)}


def family_of(path: pathlib.Path, config: Mapping[str, Any]) -> Family:
  """Returns the family of a config.json; one without a `model_type` is GPT-2's."""
  kind = config.get('model_type', 'gpt2')
  for family in FAMILIES:
    if kind in family.kinds:
      return family
  choices = ', '.join(map(repr, KINDS))
  raise ValueError(f'{path}: model_type={shown(kind)} is not supported, only {choices}')


def tensors_of(family: Family, folder: pathlib.Path) -> dict[str, Tensor]:
  """Returns the parameters of a folder by their names without the family's prefix."""
  found = without_prefix(folder, Files(folder).tensors, family.prefix)
  tensors = {name: x for name, x in found.items() if not family.buffers.fullmatch(name)}
  check_floats(folder, tensors)
  return tensors


def is_tied(family: Family, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
  """Returns what config.json says, unless the files hold a head that is not the embedding."""
  head, embedding = tensors.get('lm_head.weight'), tensors.get(family.embedding)
  if not config.get('tie_word_embeddings', family.tied):
    return False
  return head is None or embedding is None or np.array_equal(head, embedding)


def to_hf(model: GPT, variables: Any, path: str | pathlib.Path, **config: Any) -> None:
  """Writes config.json and model.safetensors (float32), which transformers loads.

  A model with rotary positions is written as Llama, Qwen2 or Qwen3, any other as GPT-2. Of
  variables that are float32 in the host's memory what GPT-2's files have as it is here is not
  copied on the way: all but queries, keys and values, a quarter of the layers.

  Args:
    model: a GPT that these files can express.
    variables: its variables.
    path: the folder.
    **config: more of config.json, such as `eos_token_id`.

  Raises:
    ValueError: neither layout can express the model.
  """
  family = llama.FAMILY if model.positions == 'rope' else gpt2.FAMILY
  family.check_model(model)
  folder = pathlib.Path(path)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = layout.to_theirs(family, model, unboxed(variables['params']))
  numbers = {name: 'float32' for name in ('dtype', 'torch_dtype')}
  whole = {**family.config(model), 'tie_word_embeddings': model.tied, **numbers, **config}
  (folder / 'config.json').write_text(f'{json.dumps(whole, indent=2)}\n')
  unfinished = folder / 'model.safetensors.tmp'
  save_file(tensors, unfinished, metadata={'format': 'pt'})
  shutil.copymode(folder / 'config.json', unfinished)  # the library lets only its owner read it
  os.replace(unfinished, folder / 'model.safetensors')
