"""Sets of images by name: scikit-learn's digits, a folder, and those of TensorFlow Datasets.

A new one is a function of `data_dir` that returns {split: Records}, and a line in DATASETS;
`records.from_arrays` makes Records of two arrays. A name that is not in the table is a TFDS set,
prepared in `data_dir`.
"""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from data.images import decode, tfds_records
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


def folder(data_dir: str | None = None) -> dict[str, Records]:
  """Returns the splits of `data_dir`/SPLIT/CLASS/IMAGE, the layout of ImageNet on disk.

  SPLIT is 'train' and others, such as 'val', which also goes by 'validation' and 'test' where no
  folders have these names. Without a folder 'train', every tenth of all images is for 'test'.
  Classes are the sorted names of the folders in 'train'; without these all is one class.
  Images become RGB, or grey if all of a sample are.

  Raises:
    ValueError: on another layout, with the one that is expected.
  """
  layout = "dataset 'folder' reads data_dir/SPLIT/CLASS/IMAGE, with a SPLIT 'train'"
  if data_dir is None:
    raise ValueError(f'data.data_dir is not set: {layout}')
  root = pathlib.Path(data_dir).expanduser()
  if not (root / 'train').is_dir():
    return _one_folder(root, f'data.data_dir={data_dir!r}: has no folder train; {layout}')
  names = [path.name for path in sorted(root.iterdir()) if path.is_dir()]
  classes = tuple(_folders(root / 'train'))
  files, _ = _files(root / 'train', classes)
  splits = {
    name: _folder_split(root / name, classes, _channels(files)) for name in names if name[0] != '.'
  }
  if 'val' in splits:
    splits = {'validation': splits['val'], 'test': splits['val'], **splits}
  return splits


def _one_folder(root: pathlib.Path, message: str) -> dict[str, Records]:
  """Returns splits of `root`/CLASS/IMAGE or `root`/IMAGE; without images, raises `message`."""
  classes = tuple(_folders(root)) if root.is_dir() else ()
  files, labels = _files(root, classes) if root.is_dir() else ([], [])
  if not files:
    raise ValueError(f'{message}, or images alone')
  test = np.arange(len(files)) % 10 == min(9, len(files) - 1)
  rows = {'train': np.flatnonzero(~test), 'test': np.flatnonzero(test)}
  channels = _channels(files)
  return {
    name: _records(
      f'{root} {name}', classes, [files[i] for i in where], [labels[i] for i in where], channels
    )
    for name, where in rows.items()
    if where.size
  }


def _folders(root: pathlib.Path) -> list[str]:
  return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != '.')


def _folder_split(root: pathlib.Path, classes: tuple[str, ...], channels: int) -> Records:
  """Returns one split, in the order of class, then file name."""
  unknown = set(_folders(root)) - set(classes)
  if unknown:
    raise ValueError(f'{root}: {min(unknown)!r} is no class of the folder train beside it')
  files, labels = _files(root, classes)
  if not files:
    raise ValueError(f'{root}: holds no images; write them as {root}/CLASS/IMAGE')
  return _records(str(root), classes, files, labels, channels)


def _files(root: pathlib.Path, classes: tuple[str, ...]) -> tuple[list[str], list[int]]:
  """Returns paths and labels, in order; without classes those of the images in `root` itself."""
  known = tuple(Image.registered_extensions())
  files, labels = [], []
  for label, name in enumerate(classes or ('.',)):
    here = root / name
    entries = here.iterdir() if here.is_dir() else ()
    found = sorted(str(x) for x in entries if x.name.lower().endswith(known))
    files += found
    labels += [label] * len(found)
  return files, labels


def _channels(files: list[str], sample: int = 16) -> int:
  """Returns 1 if all of a sample of the files are grey, else 3."""
  modes = set()
  for path in files[:: max(1, len(files) // sample)]:
    with contextlib.suppress(OSError), Image.open(path) as image:  # damaged: named when it is read
      modes.add(image.mode)
  return 1 if modes and all(map(decode.is_grey, modes)) else 3


def _records(
  name: str, classes: tuple[str, ...], files: list[str], labels: list[int], channels: int
) -> Records:
  def read(rows: Sequence[int]) -> list[tuple[bytes, int]]:
    return [(pathlib.Path(files[row]).read_bytes(), labels[row]) for row in rows]

  one = classes or ('image',)
  return Records(f'folder {name}', one, channels, len(files), read, tuple(files), files.__getitem__)


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
