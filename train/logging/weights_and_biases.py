"""Weights & Biases, where its package is installed: the same as TensorBoard gets."""

import html
import importlib
import io
import os
import uuid
from collections.abc import Mapping
from typing import Any

from PIL import Image

from train.errors import UserError
from train.logging.writers import is_image, stem
from train.workdir import write_text

ID = 'wandb_id'  # file in the run folder: a resumed run goes on in the same charts


def require() -> Any:
  """Returns the package.

  Raises:
    UserError: it is not installed.
  """
  try:
    return importlib.import_module('wandb')
  except ModuleNotFoundError:
    raise UserError('wandb: its package is not installed; `pip install wandb` does it') from None


class WeightsAndBiases:
  """Logs to a project at Weights & Biases.

  A resumed run repeats the steps since its last checkpoint, to the same bits: the service ignores
  steps that it has.

  Args:
    workdir: the run folder, whose name the run gets.
    step: the first that is written.
    config: key -> value.
    project: where the run is listed.

  Raises:
    UserError: the package is not installed, or refuses to start (no account, say).
  """

  def __init__(self, workdir: str, step: int, config: Mapping[str, Any], *, project: str) -> None:
    self._wandb, path = require(), os.path.join(workdir, ID)
    if not os.path.exists(path):
      write_text(path, uuid.uuid4().hex)
    with open(path, encoding='utf-8') as file:
      number = file.read().strip()
    name = os.path.basename(os.path.abspath(workdir))
    try:
      self._run = self._wandb.init(
        project=project, name=name, dir=workdir, id=number, resume='allow', config=dict(config)
      )
    except Exception as error:  # whatever it raises: its classes are not known here
      raise UserError(f'wandb={project!r}: {" ".join(str(error).split())}') from error

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Logs a point of each curve."""
    self._run.log(dict(values), step=step)

  def files(self, step: int, files: Mapping[str, bytes]) -> None:
    """Logs images and texts."""
    self._run.log({stem(name): self._shown(name, files[name]) for name in files}, step=step)

  def close(self) -> None:
    """Sends what is left."""
    self._run.finish()

  def _shown(self, name: str, contents: bytes) -> Any:
    if is_image(name):
      return self._wandb.Image(Image.open(io.BytesIO(contents)))
    return self._wandb.Html(f'<pre>{html.escape(contents.decode("utf-8", "replace"))}</pre>')
