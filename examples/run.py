"""A trained classifier on your own images: python -m examples.run runs/lenet_digits a.png b.png

The run is what `launch.py train --config=lenet_digits --workdir=runs/lenet_digits` leaves.
"""

import pathlib
import sys
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from data.images import modes
from train.tasks.classify import Classify
from train.verbs import load_run


def read(path, shape):
  """Returns the image of a file as uint8 [H, W, C]."""
  height, width, channels = shape
  image = modes.flatten(modes.open_image(pathlib.Path(path).read_bytes()), channels)  # as training
  resized = image.convert(modes.CHANNELS[channels]).resize((width, height))
  return np.asarray(resized).reshape(shape)


workdir, *paths = sys.argv[1:] or sys.exit(__doc__)
run = load_run(workdir)  # the last checkpoint; step='best' or a number for another
task = cast(Classify, run.task)  # what a config with task.name='classify' builds
# Images must look like those of training: lenet_digits has seen bright strokes on black.
images = jnp.stack([read(path, task.data.image_shape) for path in paths])

# The task's classifier knows the mean and std of training, and which crops it averages over.
classifier = task.classifier
inputs = classifier.normalise(classifier.views(images / 255))
scores = classifier.scores(run.variables, inputs, len(images))
for path, row in zip(paths, np.asarray(jax.nn.softmax(scores)), strict=True):
  print(f'{path}: {task.data.classes[row.argmax()]} ({row.max():.1%})')
