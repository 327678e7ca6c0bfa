"""Holds what the tasks that draw images have in common, whatever their networks are."""

from collections.abc import Mapping
from typing import Any

import jax

import models.summary
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.task import Task


class ImageTask(Task):
  """A task of images, which its networks may be told the classes of.

  Attributes:
    data: the images.
  """

  data: ImageData

  @property
  def classes(self) -> tuple[str, ...]:
    """The classes that the networks are told; () for none."""
    raise NotImplementedError

  @property
  def batch_size(self) -> int:
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    return 'images', self.data.batch_size

  def summary(self) -> str:
    """Returns the table of the parameters."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    self.data.close()

  def meaning(self) -> dict[str, Any]:
    """Returns the shape of the images and, of conditional networks, their classes in order."""
    shape = {'image_shape': list(self.data.image_shape)}
    return {**shape, 'classes': list(self.classes)} if self.classes else shape

  def fingerprints(self) -> Mapping[str, str]:
    return self.data.fingerprints()
