"""Language models of public weights, and a run's weights for transformers."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from data.text import choose_tokenizer, tokenizer_folder, tokenizers
from models.gpt import GPT, huggingface, llama
from models.gpt.parameters import num_embeddings
from models.weights.files import Files
from train import errors, verbs
from train.convert.folders import new_folder
from train.convert.format import Converted
from train.errors import UserError

GPT2_TOKENS = 50_257
LONGEST_BLOCK = 1024  # of rows; scores of 131,072 tokens, Llama 3's most, would fill any memory

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


def is_gpt2(files: Files) -> bool:
  """Returns whether the files are a GPT-2's."""
  if 'model_type' in files.config:
    return files.config['model_type'] == 'gpt2'
  return any(name.endswith('h.0.attn.c_attn.weight') for name in files.tensors)


def is_llama(files: Files) -> bool:
  """Returns whether the files are those of a Llama, or of a model that differs by a switch."""
  named = files.config.get('model_type') in llama.KINDS
  return named or 'model.layers.0.self_attn.q_proj.weight' in files.tensors


def from_transformers(files: Files) -> Converted:
  """Returns a language model that transformers wrote, and its tokenizer; prints what it lacks."""
  folder = files.folder
  model, variables = huggingface.from_hf(folder)
  spec, tokenizer = find_tokenizer(folder, model.vocab_size)
  model = fit_vocabulary(str(folder), model, tokenizer)
  summary = f'{model.layers} layers of width {model.width}, {spec}'
  return Converted(config_of(model, spec), variables, summary, tokenizer=tokenizer)


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
  section = {name: getattr(model, name) for name in (*huggingface.FIELDS, 'vocab_multiple')}
  block = min(model.block_size, LONGEST_BLOCK)
  data = {**DEFAULTS['data'], 'tokenizer': tokenizer, 'block_size': block}
  paper = {'title': 'imported weights', 'metric': 'val/loss'}
  return {**DEFAULTS, 'model': {'name': 'gpt', **section}, 'data': data, 'paper': paper}


# -------- out --------


def export_hf(workdir: str, folder: str, step: int | str = 'latest') -> None:
  """Writes a workdir's weights (averaged where kept) and its tokenizer for transformers.

  Args:
    workdir: of a run of task `language`.
    folder: a new or empty folder.
    step: the checkpoint's, or 'latest', 'best'.

  Raises:
    UserError: `folder` holds something, the run is no language model's, or neither GPT-2's nor
      Llama's files can express its model.
  """
  name = verbs.read_config(workdir)['task']['name']
  if name != 'language':
    raise UserError(f'{workdir}: task.name={name!r}; only language models are exported')
  run = verbs.load_run(workdir, step, ANY_DEVICES)
  task: Any = run.task
  tokenizer = task.data.tokenizer
  first = tokenizer.eot if tokenizer.bos is None else tokenizer.bos
  roles = {'bos_token_id': first, 'eos_token_id': tokenizer.eot}
  roles = {} if tokenizer.eot is None else roles
  with errors.user_errors(), new_folder(folder, 'the folder of an export') as made:
    huggingface.to_hf(task.model, run.variables, made, **roles)
    if not tokenizer.save_for_transformers(made):
      print(f'{folder}: transformers has no tokenizer like {tokenizer.name}; its weights are there')
  print(f'{folder}: step {run.step} of {workdir}, for transformers')
