"""Holds what the tasks of images have in common, whatever their networks are."""

from collections.abc import Mapping
from typing import Any

import jax

import models.summary
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.task import Task


class ImageTask(Task):
  """A task of images, whose classes its networks may be told.

  Attributes:
    data: the images.
  """

  data: ImageData

  @property
  def classes(self) -> tuple[str, ...]:
    """The classes that the networks are told, in the order of their numbers; () for none."""
    return tuple(self.data.classes)

  @property
  def batch_size(self) -> int:
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    return 'images', self.batch_size

  def summary(self) -> str:
    """Returns the table of the parameters."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    self.data.close()

  def meaning(self) -> dict[str, Any]:
    """Returns the shape of the images and the classes that networks are told, in order."""
    shape = {'image_shape': list(self.data.image_shape)}
    return {**shape, 'classes': list(self.classes)} if self.classes else shape

  def fingerprints(self) -> Mapping[str, str]:
    return self.data.fingerprints()
