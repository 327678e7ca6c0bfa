"""Converts public weights: GPT-2 in Hugging Face's layout to a workdir, and back (verb convert).

Both are written beside their place and get their name when they are complete.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from data.text import choose_tokenizer, tokenizer_folder, tokenizers
from models.gpt import GPT, huggingface
from models.gpt.parameters import num_embeddings
from train import errors, sections, verbs
from train.checkpoint import Checkpointer
from train.errors import UserError
from train.run import check_finite
from train.workdir import write_json

GPT2_TOKENS = 50_257

# Whatever mesh the run had: every device here holds all of the weights.
ANY_DEVICES = {'mesh.data': '-1', 'mesh.fsdp': '1', 'mesh.tensor': '1', 'mesh.context': '1'}

# The config of an imported workdir, but for its model: 500 steps of fine-tuning.
DEFAULTS: Mapping[str, Any] = {
  'task': {'name': 'language', 'chunk': 128},
  'data': {'name': 'text', 'dataset': 'python', 'batch_size': 8},
  'optimizer': {
    'name': 'adamw',
    'learning_rate': 3e-5,
    'schedule': 'cosine',
    'warmup_steps': 20,
    'weight_decay': 0.1,
    'clip_norm': 1.0,
  },
  'train': {'steps': 500, 'log_every': 10, 'eval_every': 100, 'best': 'val/loss'},
}


# -------- in --------


def import_hf(folder: str, workdir: str) -> None:
  """Makes a workdir, which `eval`, `sample` and `train` accept, of a GPT-2 that transformers wrote.

  The weights become step 0. Since nothing was trained here, a first `train` may change all of the
  config but what the weights mean. Prints what was found and what was not.

  Args:
    folder: config.json, safetensors and perhaps tokenizer files.
    workdir: a new or empty folder.

  Raises:
    UserError: `workdir` holds something, or `folder` lacks something or does not fit together.
  """
  with errors.user_errors(), new_folder(workdir, 'a workdir') as made:
    model, variables = huggingface.from_hf(folder)
    check_finite(variables, folder)
    spec, tokenizer = find_tokenizer(pathlib.Path(folder), model.vocab_size)
    model = fit_vocabulary(folder, model, tokenizer)
    if tokenizer is not None:
      tokenizer.save(os.path.join(made, sections.TOKENIZER))
    save(variables, os.path.join(made, 'checkpoints'))
    config = verbs.complete_config(config_of(model, spec))
    write_json(os.path.join(made, 'config.json'), config)
  print(f'{workdir}: {model.layers} layers of width {model.width}, {spec}, from {folder}')


def find_tokenizer(
  folder: pathlib.Path, vocab_size: int
) -> tuple[str, tokenizers.Tokenizer | None]:
  """Returns `data.tokenizer` and the tokenizer to keep; prints what is done where there is none."""
  if tokenizers.holds_tokenizer(folder):
    found = tokenizers.load(folder)
    say_ends(folder, found)
    return spec_of(found), found
  ends = [number for number in tokenizer_folder.end_ids(folder) if number < vocab_size]
  if vocab_size != GPT2_TOKENS:
    print(f'{folder}: holds no tokenizer; its texts are numbers of tokens, such as "15 0 7"')
    say_ends(folder, numbers := tokenizers.Numbers(vocab_size, ends))
    return spec_of(numbers), numbers
  if at := choose_tokenizer.gpt2_folder():
    print(f"{folder}: holds no tokenizer; GPT-2's is taken, of {at}")
    found = tokenizers.gpt2(at)
    found = dataclasses.replace(found, ends=tuple(dict.fromkeys([*found.ends, *ends])))
    say_ends(folder, found)
    return 'gpt2', found
  print(
    f"{folder}: holds no tokenizer; GPT-2's is needed to use it: `launch.py prepare gpt2_bpe`"
    ' fetches it'
  )
  return 'gpt2', None


def say_ends(folder: pathlib.Path, tokenizer: tokenizers.Tokenizer) -> None:
  """Prints at which tokens a text ends that the model writes."""
  ends = ', '.join(f'{tokenizer.decode([end])!r} ({end})' for end in tokenizer.ends)
  print(f'{folder}: texts end at {ends or "--tokens: it has no end-of-text token"}')


def spec_of(tokenizer: tokenizers.Tokenizer) -> str:
  """Returns `data.tokenizer` for a tokenizer that the workdir keeps."""
  sized = isinstance(tokenizer, tokenizers.Numbers)
  kind = 'gpt2' if isinstance(tokenizer, tokenizers.BPE) else tokenizer.name
  return f'{kind}:{tokenizer.vocab_size}' if sized else kind


def fit_vocabulary(folder: str, model: GPT, tokenizer: tokenizers.Tokenizer | None) -> GPT:
  """Returns the model with the tokenizer's vocabulary; rows beyond it become padding."""
  rows = model.vocab_size
  tokens = rows if tokenizer is None else tokenizer.vocab_size
  if tokens > rows:
    raise ValueError(f'{folder}: its tokenizer has {tokens} tokens, its weights only {rows}')
  if tokens == rows:
    return model
  print(f'{folder}: {rows} tokens, {tokens} in its tokenizer; the others are never drawn or scored')
  power = rows & -rows  # the largest power of two that divides them
  fitted = model.clone(vocab_size=tokens, vocab_multiple=power)
  return fitted if num_embeddings(fitted) == rows else fitted.clone(vocab_multiple=rows)


def config_of(model: GPT, tokenizer: str) -> dict[str, Any]:
  """Returns a config of the model, with DEFAULTS for the rest."""
  fields = ('layers', 'heads', 'width', 'block_size', 'mlp_width', 'tied', 'dropout')
  section = {name: getattr(model, name) for name in (*fields, 'vocab_multiple')}
  data = {**DEFAULTS['data'], 'tokenizer': tokenizer, 'block_size': model.block_size}
  paper = {'title': 'imported weights', 'metric': 'val/loss'}
  return {**DEFAULTS, 'model': {'name': 'gpt', **section}, 'data': data, 'paper': paper}


def save(variables: dict[str, Any], folder: str) -> None:
  """Writes step 0 of a model alone; frees each array of `variables` once it is JAX's."""
  params = release(variables.pop('params'))
  with contextlib.closing(Checkpointer(folder, best=None)) as checkpoints:
    checkpoints.save(0, {'params': params, 'extra': {}, 'ema': ()}, {}, {'metrics': {}})


def release(tree: dict[str, Any]) -> dict[str, Any]:
  """Returns the tree as JAX's arrays, and empties it on the way."""
  taken = {}
  for name in list(tree):
    leaf = tree.pop(name)
    taken[name] = release(leaf) if isinstance(leaf, dict) else jax.device_put(leaf)
  return taken


# -------- out --------


def export_hf(workdir: str, folder: str, step: int | str = 'latest') -> None:
  """Writes a workdir's weights (averaged where kept) and its tokenizer for transformers.

  Args:
    workdir: of a run of task `language`.
    folder: a new or empty folder.
    step: the checkpoint's, or 'latest', 'best'.

  Raises:
    UserError: `folder` holds something, the run is no language model's, or GPT-2's files cannot
      express its model.
  """
  name = verbs.read_config(workdir)['task']['name']
  if name != 'language':
    raise UserError(f'{workdir}: task.name={name!r}; only language models are exported')
  run = verbs.load_run(workdir, step, ANY_DEVICES)
  task: Any = run.task
  tokenizer = task.data.tokenizer
  roles = ('bos_token_id', 'eos_token_id') if tokenizer.eot is not None else ()
  with errors.user_errors(), new_folder(folder, 'the folder of an export') as made:
    huggingface.to_hf(task.model, run.variables, made, **dict.fromkeys(roles, tokenizer.eot))
    if not tokenizer.save_for_transformers(made):
      print(f'{folder}: transformers has no tokenizer like {tokenizer.name}; its weights are there')
  print(f'{folder}: step {run.step} of {workdir}, for transformers')


# -------- folders --------


@contextlib.contextmanager
def new_folder(path: str, what: str) -> Iterator[str]:
  """Yields a folder to fill, which then becomes `path`.

  Raises:
    UserError: `path` holds something already.
  """
  place = pathlib.Path(path).resolve()
  if place.exists() and (not place.is_dir() or any(place.iterdir())):
    raise UserError(f'{path}: holds something already; {what} needs a new or empty folder')
  unfinished = place.with_name(f'.{place.name}.unfinished')
  shutil.rmtree(unfinished, ignore_errors=True)
  unfinished.mkdir(parents=True)
  try:
    yield str(unfinished)
    os.replace(unfinished, place)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
