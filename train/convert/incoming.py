"""Makes a run folder of public weights."""

import contextlib
import os
from typing import Any

import jax

from models.weights.files import Files
from train import errors, sections, verbs
from train.checkpoint import Checkpointer
from train.convert import formats
from train.convert.folders import new_folder
from train.run import MEANING, check_finite
from train.workdir import write_json


def import_weights(path: str, workdir: str, name: str | None = None) -> None:
  """Makes a workdir, which `eval`, `sample` and `train` accept, of public weights.

  The weights become step 0. Since nothing was trained here, a first `train` may change all of the
  config but what the weights mean. Prints what was found and what was not.

  Args:
    path: a folder, or one file.
    workdir: a new or empty folder.
    name: a key of `formats.FORMATS`; None to tell it by the content.

  Raises:
    UserError: `workdir` holds something, or the files lack something or do not fit together.
  """
  with errors.user_errors(), new_folder(workdir, 'a workdir') as made:
    files = Files(path)
    found = formats.find(files, name).convert(files)
    check_finite(found.variables, path)
    if found.tokenizer is not None:
      found.tokenizer.save(os.path.join(made, sections.TOKENIZER))
    config = verbs.complete_config(found.config)
    save(found.variables, os.path.join(made, 'checkpoints'))
    write_json(os.path.join(made, 'config.json'), config)
    if found.meaning:
      write_json(os.path.join(made, MEANING), found.meaning)
  print(f'{workdir}: {found.summary}, from {path}')


def save(variables: dict[str, Any], folder: str) -> None:
  """Writes step 0 of a model alone; frees each array of `variables` once it is JAX's."""
  params = release(variables.pop('params'))
  with contextlib.closing(Checkpointer(folder, best=None)) as checkpoints:
    model = {'params': params, 'extra': release(variables), 'ema': ()}
    checkpoints.save(0, model, {}, {'metrics': {}})


def release(tree: dict[str, Any]) -> dict[str, Any]:
  """Returns the tree as JAX's arrays, and empties it on the way."""
  taken = {}
  for name in list(tree):
    leaf = tree.pop(name)
    taken[name] = release(leaf) if isinstance(leaf, dict) else jax.device_put(leaf)
  return taken
