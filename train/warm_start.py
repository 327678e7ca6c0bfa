"""Starts a run from another's weights (`train --init_from`): a run, or public ones of language.

Parameters are matched by name and shape. What belongs to classes or tokens of another meaning
begins fresh even where the shape fits. The optimiser and the count of steps begin anew.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

from data.text import choose_tokenizer, tokenizers
from data.text.source import TextData
from models.gpt import huggingface
from train import config as config_lib
from train import console
from train import mesh as mesh_lib
from train.checkpoint.record import leaves, some
from train.errors import UserError, shown, user_errors
from train.run import check_finite, load_weights
from train.sections import TOKENIZER, build_task, complete_config
from train.task import Task, Variables
from train.tasks import TASKS

VOCABULARY = 'vocab_size'  # of a model without a config


@dataclasses.dataclass(frozen=True)
class Origin:
  """Weights to begin with.

  Attributes:
    name: whose they are, for messages.
    variables: `params` and the other collections, NumPy.
    classes: the names of the classes in their order; None where they are not known.
    tokenizer: the folder of the tokenizer that they were trained with, where there is one.
    settings: key of the config -> value, as far as they are known.
  """

  name: str
  variables: Variables
  classes: list[str] | None
  tokenizer: str
  settings: Mapping[str, Any]


def load(path: str) -> Origin:
  """Returns the weights (averaged where kept) of a run folder, or of a folder of transformers'.

  Raises:
    UserError: neither is there, or it is damaged.
  """
  if _needs_conversion(path):
    raise UserError(
      f'--init_from={path}: public weights; `launch.py convert --from={path} --workdir=NEW` makes a'
      ' run folder of them, for --init_from=NEW'
    )
  if _is_hugging_face(path):
    with user_errors():
      model, variables = huggingface.from_hf(path)
    check_finite(variables, path)
    settings = {f'model.{name}': getattr(model, name) for name in huggingface.FIELDS}
    return Origin(path, variables, None, path, {**settings, VOCABULARY: model.vocab_size})
  weights, folder = load_weights(path), tokenizer_folder(path)
  name, classes = f'{path}, step {weights.step}', weights.meaning.get('classes')
  settings = config_lib.flat(complete_config(weights.config))
  return Origin(name, weights.variables, classes, folder, settings)


def tokenizer_folder(path: str) -> str:
  """Returns where a run folder, or a folder of public weights, keeps its tokenizer."""
  return path if _is_hugging_face(path) else os.path.join(path, TOKENIZER)


def build(config: Mapping[str, Any], workdir: str) -> Task:
  """Returns the task of a run that may begin with another's weights.

  A text is encoded by the tokenizer of those weights where `data.tokenizer` is of its kind and it
  knows all of the text; else by the run's own, for which token embeddings begin fresh.
  """
  own, origin = os.path.join(workdir, TOKENIZER), config['init_from']
  theirs = tokenizer_folder(origin) if origin else own
  if not tokenizers.holds_tokenizer(own) and tokenizers.holds_tokenizer(theirs):
    try:
      return build_task(config, workdir, tokenizer=theirs)
    except UserError:  # what else is wrong shows again
      pass
  return build_task(config, workdir)


def keep_tokenizer(task: Task, workdir: str) -> None:
  """Saves the tokenizer of a text with the run, which may be another's until it begins."""
  if isinstance(task.data, TextData):
    choose_tokenizer.keep(task.data.tokenizer, os.path.join(workdir, TOKENIZER))


def starter(
  config: Mapping[str, Any], task: Task, workdir: str
) -> Callable[[Variables], Variables] | None:
  """Returns the function from fresh variables to those that the run begins with.

  None: it begins with fresh ones, or has begun.

  Raises:
    UserError: the weights are not there, or none fits.
  """
  checkpoints = os.path.join(workdir, 'checkpoints')
  begun = os.path.isdir(checkpoints) and any(map(str.isdigit, os.listdir(checkpoints)))
  if begun or not config['init_from']:
    return None
  origin, shapes = load(config['init_from']), _shapes(task)
  same = same_names(task, origin)
  padded_or_fresh = isinstance(task.data, TextData) or not same
  taken = fitting(shapes, origin, named(config, task) if padded_or_fresh else frozenset(), same)

  def put(path: Any, leaf: jax.Array) -> jax.Array:
    value = taken.get(jax.tree_util.keystr(path, simple=True, separator='/'))
    if value is None:
      return leaf
    value = np.asarray(value, leaf.dtype)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: value[index])

  def start(fresh: Variables) -> Variables:
    if mesh_lib.is_main():
      console.say([describe(origin, shapes, taken) + changes(config, origin)])
    return jax.tree_util.tree_map_with_path(put, dict(fresh))

  return start


def fitting(
  shapes: Mapping[str, tuple[int, ...]], origin: Origin, named: frozenset[str], same: bool
) -> dict[str, np.ndarray]:
  """Returns the arrays of `origin` by name, of those whose names and shapes fit.

  Args:
    shapes: of a new run's variables.
    origin: the weights to take.
    named: the arrays that belong to classes or tokens.
    same: whether these are the origin's; the rows that pad a vocabulary may then differ.

  Raises:
    UserError: none fits.
  """
  theirs = dict(leaves(dict(origin.variables)))
  found = {name: value for name, value in theirs.items() if name in shapes}
  if same:
    found |= {name: padded(found[name], shapes[name][0]) for name in named & found.keys()}
  else:
    found = {name: value for name, value in found.items() if name not in named}
  taken = {name: value for name, value in found.items() if np.shape(value) == shapes[name]}
  if not any(name.startswith('params/') for name in taken):
    raise UserError(
      f'--init_from={origin.name}: none of its arrays ({some(list(theirs))}) has the name and the'
      f' shape of one of this model ({some(list(shapes))})'
    )
  return taken


def padded(value: np.ndarray, rows: int) -> np.ndarray:
  """Returns the value cut, or filled with zeros, to so many rows."""
  more = [(0, max(0, rows - len(value)))] + [(0, 0)] * (value.ndim - 1)
  return np.pad(value, more)[:rows]


def describe(origin: Origin, shapes: Collection[str], taken: Collection[str]) -> str:
  """Returns the line that says what was taken and, by name, what begins fresh."""
  new = [name for name in shapes if name not in taken]
  unused = [name for name, _ in leaves(dict(origin.variables)) if name not in shapes]
  said = f'begins with {len(taken)} of {len(shapes)} arrays of {origin.name}'
  said += f'; fresh: {some(new, 8)}' if new else ''
  return said + (f'; not used: {some(unused, 8)}' if unused else '')


def changes(config: Mapping[str, Any], origin: Origin) -> str:
  """Returns what of model and task is not as it was for the origin, which no shape may show."""
  ours, theirs = config_lib.flat(config), origin.settings
  found = [
    f'{key}={shown(ours[key])} (was {shown(theirs[key])})'
    for key in ours
    if key.startswith(('model.', 'task.')) and key in theirs and ours[key] != theirs[key]
  ]
  return f'; changed: {some(found, 8)}' if found else ''


# -------- classes and tokens of another meaning --------


def same_names(task: Task, origin: Origin) -> bool:
  """Returns whether the run's classes or tokens are the origin's, in the same order."""
  if not isinstance(task.data, TextData):
    return origin.classes in (None, list(task.meaning().get('classes', ())))
  if not tokenizers.holds_tokenizer(origin.tokenizer):
    return origin.settings.get(VOCABULARY) == task.data.vocab_size
  theirs = tokenizers.load(origin.tokenizer)
  return tokenizers.fingerprint(theirs) == tokenizers.fingerprint(task.data.tokenizer)


def named(config: Mapping[str, Any], task: Task) -> frozenset[str]:
  """Returns the names of the arrays whose shapes depend on the number of classes or tokens."""
  more = config_lib.build(
    config['task'], TASKS, 'task', model=config['model'], data=_More(task.data)
  )
  here, there = _shapes(task), _shapes(more)
  return frozenset(name for name, shape in here.items() if shape != there.get(name))


class _More:
  """The same data with more classes or tokens, to see which shapes depend on them."""

  def __init__(self, data: Any):
    self._data = data

  def __getattr__(self, name: str) -> Any:
    return getattr(self._data, name)

  @property
  def classes(self) -> tuple[str, ...]:
    return (*self._data.classes, 'one more')

  @property
  def vocab_size(self) -> int:
    return self._data.vocab_size + 1024  # more than a vocabulary is padded by


def _shapes(task: Task) -> dict[str, tuple[int, ...]]:
  shapes = mesh_lib.unbox(jax.eval_shape(task.init, jax.random.key(0)))
  return {name: leaf.shape for name, leaf in leaves(dict(shapes))}


def _needs_conversion(path: str) -> bool:
  """Returns whether weights are neither a run's nor a language model's folder of transformers'."""
  if os.path.isfile(path):
    return True
  return _is_hugging_face(path) and not huggingface.is_language_model(path)


def _is_hugging_face(path: str) -> bool:
  """Returns whether a folder is one that transformers wrote, and no run folder."""
  file = os.path.join(path, 'config.json')
  return os.path.isfile(file) and 'task' not in config_lib.read_json(file)
