"""The sets of images by name. A new one is a function of `data_dir` and a line in DATASETS.

The function returns {split: Records}; `records.from_arrays` makes Records of two arrays. A name
that is not in the table is a TFDS set, prepared in `data_dir`.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

from data import tfds_records
from data.records import Records, from_arrays


def digits(data_dir: str | None = None) -> dict[str, Records]:
  """Scikit-learn's 1,797 handwritten digits (UCI's "Optical Recognition of Handwritten Digits"
  test set), embedded in the package; 1,437 for training and 360 for testing.

  The 8 x 8 images of 0..16 become 28 x 28 of 0..255, bilinear, so that MNIST's networks fit. The
  split is stratified: a fixed permutation, then every fifth example of each class is for testing.
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


def folder(data_dir: str | None = None) -> dict[str, Records]:
  """`data_dir`/SPLIT/CLASS/IMAGE, the layout of ImageNet on disk; images of any form, in RGB.

  SPLIT is 'train' and others, such as 'val', which also goes by 'validation' and 'test' where no
  folders have these names.
  Classes are the sorted names of the folders in 'train'. Raises ValueError on another layout.
  """
  layout = "dataset 'folder' reads data_dir/SPLIT/CLASS/IMAGE, with a SPLIT 'train'"
  if data_dir is None:
    raise ValueError(f'data.data_dir is not set: {layout}')
  root = pathlib.Path(data_dir).expanduser()
  if not (root / 'train').is_dir():
    raise ValueError(f'data.data_dir={data_dir!r}: has no folder train; {layout}')
  names = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
  classes = tuple(_folders(root / 'train'))
  splits = {name: _folder_split(root / name, classes) for name in names if name[0] != '.'}
  if 'val' in splits:
    splits = {'validation': splits['val'], 'test': splits['val'], **splits}
  return splits


def _folders(root: pathlib.Path) -> list[str]:
  return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != '.')


def _folder_split(root: pathlib.Path, classes: tuple[str, ...]) -> Records:
  """Records in the order of class, then file name."""
  unknown = set(_folders(root)) - set(classes)
  if unknown:
    raise ValueError(f'{root}: {min(unknown)!r} is no class of the folder train beside it')
  known = tuple(Image.registered_extensions())
  files, labels = [], []
  for name in _folders(root):
    found = sorted(str(x) for x in (root / name).iterdir() if x.name.lower().endswith(known))
    files += found
    labels += [classes.index(name)] * len(found)
  if not files:
    raise ValueError(f'{root}: holds no images; write them as {root}/CLASS/IMAGE')

  def read(rows):
    return [(pathlib.Path(files[row]).read_bytes(), labels[row]) for row in rows]

  return Records(f'folder {root}', classes, 3, len(files), read, tuple(files), files.__getitem__)


# set -> its number of classes and the shape of an image, a usual one where they differ.
PUBLISHED = {
  'mnist': (10, (28, 28, 1)),
  'cifar10': (10, (32, 32, 3)),
  'cifar100': (100, (32, 32, 3)),
  'imagenet2012': (1000, (375, 500, 3)),
}

DATASETS = {'digits': digits, 'folder': folder}


def load(dataset: str, data_dir: str | None = None) -> Mapping[str, Records]:
  """{split: Records} of a name in DATASETS, else of a TFDS set."""
  if dataset in DATASETS:
    return DATASETS[dataset](data_dir)
  return tfds_records.load(dataset, data_dir, others=tuple(DATASETS))
