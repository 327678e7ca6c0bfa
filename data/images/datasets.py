"""Sets of images by name: scikit-learn's digits, a folder, and those of TensorFlow Datasets.

A new one is a function of `data_dir` that returns {split: Records}, and a line in DATASETS;
`records.from_arrays` makes Records of two arrays. A name that is not in the table is a TFDS set,
prepared in `data_dir`.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from data.images import tfds_records
from data.images.folder import folder
from data.images.records import Records, from_arrays


def digits(data_dir: str | None = None) -> dict[str, Records]:
  """Returns scikit-learn's handwritten digits, 1,437 for training and 360 for testing.

  They are the test set of UCI's "Optical Recognition of Handwritten Digits", embedded in the
  package. The 8 x 8 images of 0..16 become 28 x 28 of 0..255, bilinear, so that MNIST's networks
  fit. The split is stratified: a fixed permutation, then every fifth example of each class is for
  testing.
  """
  from sklearn.datasets import load_digits  # a second to import; nobody else needs it

  raw = load_digits()
  pixels = np.round(raw.images * (255 / 16)).astype(np.uint8)
  bilinear = Image.Resampling.BILINEAR
  images = np.stack([np.asarray(Image.fromarray(x).resize((28, 28), bilinear)) for x in pixels])
  order = np.random.default_rng(0).permutation(len(images))
  order = order[np.argsort(raw.target[order], kind='stable')]  # class by class
  test = np.arange(len(order)) % 5 == 0
  classes = [str(name) for name in raw.target_names]

  def split(name: str, rows: np.ndarray) -> Records:
    rows = np.sort(rows)
    return from_arrays(f'digits {name}', images[rows][..., None], raw.target[rows], classes)

  return {'train': split('train', order[~test]), 'test': split('test', order[test])}


# Number of classes, and the shape of an image (a usual one where they differ), of sets that
# networks are summarized for without reading them.
PUBLISHED = {
  'mnist': (10, (28, 28, 1)),
  'cifar10': (10, (32, 32, 3)),
  'cifar100': (100, (32, 32, 3)),
  'imagenet2012': (1000, (375, 500, 3)),
}

DATASETS = {'digits': digits, 'folder': folder}


def load(dataset: str, data_dir: str | None = None) -> Mapping[str, Records]:
  """Returns the splits of a name in DATASETS, else of a TFDS set."""
  if dataset in DATASETS:
    return DATASETS[dataset](data_dir)
  return tfds_records.load(dataset, data_dir, others=tuple(DATASETS))
