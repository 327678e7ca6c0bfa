"""A folder of images as a data set: which files are taken, in which order, and what is left out."""

import contextlib
import functools
import os
import pathlib
import stat
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from data import folders as folders_lib
from data import splits
from data.checks import printable, shown
from data.images import modes, records
from data.images.records import Records
from data.remarks import Remarks

LAYOUT = "dataset 'folder' reads data_dir/SPLIT/CLASS/IMAGE, with a SPLIT 'train'"
SPLIT_NAMES = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing', 'eval'}

ONE_CLASS = ('image',)
Classes = Mapping[str, Sequence[str]]  # name -> the paths of its images, sorted


def folder(data_dir: str | None = None) -> dict[str, Records]:
  """Returns the splits of `data_dir`/SPLIT/CLASS/IMAGE, the layout of ImageNet on disk.

  SPLIT is 'train' and others, such as 'val', which also goes by 'validation' and 'test' where no
  folders have these names. Without a folder 'train', a tenth of all images is for 'test', unless
  'val' alone is there, as whoever only evaluates a network has it. Classes are the sorted names of
  the folders in 'train' that hold images; without these all is one class.
  Records are in a fixed order that spreads every class, so that a slice is a sample of all. Images
  become RGB, or grey if all of a sample are. What is left out is logged, except for droppings.

  Raises:
    ValueError: on another layout, with the one that is expected, and on what cannot be read.
  """
  if data_dir is None:
    raise ValueError(f'data.data_dir is not set: {LAYOUT}')
  root = pathlib.Path(os.path.expanduser(data_dir))
  left_out = Remarks(f'folder {printable(str(root))}: left out')
  first = _first_split(root)
  found = _splits(root, left_out, first) if first else _one_folder(root, left_out)
  left_out.say()
  return found


def _first_split(root: pathlib.Path) -> str:
  """Returns the split whose folders are the classes: 'train', or 'val' alone; '' for none."""
  if os.path.isdir(root / 'train'):
    return 'train'
  return 'val' if os.path.isdir(root) and _list(root, Remarks(''))[0] == ['val'] else ''


def _splits(root: pathlib.Path, left_out: Remarks, first: str) -> dict[str, Records]:
  """Returns the first split, and one for each folder beside it that holds images of its classes."""
  images = _scan(root / first, left_out)
  if not images:
    raise ValueError(f'{_shown(root / first)}: holds no images; {LAYOUT}{_also(left_out)}')
  names, channels = tuple(images), _channels(images)
  found = {first: _records(_shown(root / first), images, names, channels)}
  folders, alone = _list(root, Remarks(''))  # files beside the folders may be anything but images
  for path in alone:
    left_out.add(f'images beside the folder {first}', printable(path))
  for here in (root / name for name in folders if name != first):
    classes = _scan(here, left_out, names)
    if unknown := sorted(set(classes) - set(names)):
      raise ValueError(f'{_shown(here)}: {unknown[0]!r} is no class of the folder train beside it')
    if classes:
      found[here.name] = _records(_shown(here), classes, names, channels)
  if 'val' in found:
    found |= {name: found['val'] for name in ('validation', 'test') if name not in folders}
  return found


def _one_folder(root: pathlib.Path, left_out: Remarks) -> dict[str, Records]:
  """Returns 'train' and 'test' of `root`/CLASS/IMAGE or `root`/IMAGE."""
  classes = _scan(root, left_out) if os.path.isdir(root) else {}
  if not classes or all(name.casefold() in SPLIT_NAMES for name in classes):
    wrong = 'has no folder train' if os.path.isdir(root) else 'is no folder'
    form = f'{LAYOUT}, or images alone'
    raise ValueError(f'data.data_dir={shown(str(root))}: {wrong}; {form}{_also(left_out)}')
  whole = _records(_shown(root), classes, tuple(classes), _channels(classes))
  tests = max(1, whole.size // 10)
  rows = {'train': range(whole.size - tests), 'test': range(whole.size - tests, whole.size)}
  return {name: records.part(whole, name, here) for name, here in rows.items() if here}


# -------- what is there --------


def _scan(root: pathlib.Path, left_out: Remarks, names: tuple[str, ...] = ONE_CLASS) -> Classes:
  """Returns the images in `root`/CLASS; where nothing is, those in `root` itself as one class.

  With the `names` of other classes than that one, images in `root` itself are left out.
  """
  folders, alone = _list(root, left_out)
  classes = {}
  for name in folders:
    inner, images = _list(root / name, left_out)
    for folder in inner:
      left_out.add('folders within classes', _shown(root / name / folder))
    if images:
      classes[name] = images
    else:
      left_out.add('folders without images', _shown(root / name))
  if not classes and names == ONE_CLASS:
    return dict.fromkeys(ONE_CLASS, alone) if alone else {}
  for path in alone:
    left_out.add('images outside of the folders of classes', printable(path))
  _warn_of_twins(root, classes)
  return classes


def _list(root: pathlib.Path, left_out: Remarks) -> tuple[list[str], list[str]]:
  """Returns the names of the folders in `root`, and the paths of the images, sorted."""
  folders, images = [], []
  try:
    with os.scandir(root) as entries:
      for entry in sorted(entries, key=lambda entry: entry.name):
        if folders_lib.is_dropping(entry.name):
          continue
        kind = _kind(entry)
        if kind == 'folder':
          folders.append(entry.name)
        elif kind == 'image':
          images.append(entry.path)
        else:
          left_out.add(kind, printable(entry.path))
  except OSError as error:
    where = os.fsdecode(error.filename or root)
    link = f' (a link to {printable(os.readlink(where))})' if os.path.islink(where) else ''
    raise ValueError(f'{printable(where)}{link}: cannot be read: {error.strerror}') from error
  return folders, images


def _kind(entry: os.DirEntry) -> str:
  """Returns 'folder', 'image' or what else an entry is, which is left out."""
  if entry.name[0] == '.':
    return folders_lib.HIDDEN
  facts = entry.stat()  # of what a link leads to; raises if that is not there
  if stat.S_ISDIR(facts.st_mode):
    return 'folder'
  if not entry.name.lower().endswith(modes.extensions()):
    return 'files of other formats'
  if not stat.S_ISREG(facts.st_mode):
    return 'devices and pipes'
  return 'image' if facts.st_size else 'empty files'


def _warn_of_twins(root: pathlib.Path, classes: Classes) -> None:
  """Warns of two classes whose names differ by case alone, or by how an accent is encoded."""
  seen: dict[str, str] = {}
  for name in classes:
    twin = seen.setdefault(unicodedata.normalize('NFKC', name).casefold(), name)
    if twin != name:
      note = '%s: the classes %r and %r differ by case or by the encoding of letters alone'
      logging.warning(note, _shown(root), twin, name)


# -------- how it is read --------


def _channels(classes: Classes, sample: int = 16) -> int:
  """Returns 1 if all of a sample of the images are grey, else 3."""
  files = [path for paths in classes.values() for path in paths]
  grey = set()
  for path in files[:: max(1, len(files) // sample)]:
    with contextlib.suppress(Exception):  # damaged: named when it is read
      grey.add(modes.is_grey(modes.open_image(pathlib.Path(path).read_bytes())))
  return 1 if grey == {True} else 3


def _records(name: str, classes: Classes, names: tuple[str, ...], channels: int) -> Records:
  """Returns the images of `classes`, whose labels are their places in `names`."""
  paths = [path for each in classes.values() for path in each]
  numbers = [names.index(each) for each in classes]
  labels = np.repeat(np.array(numbers, np.int32), [len(each) for each in classes.values()])
  order = splits.even_order(labels)
  files, labels = tuple(paths[row] for row in order), labels[order]
  read = functools.partial(_read, files, labels)
  return Records(
    f'folder {name}', names, channels, len(files), read, files, files.__getitem__, labels
  )


def _read(files: Sequence[str], labels: np.ndarray, rows: Sequence[int]) -> list[tuple[bytes, int]]:
  return [(pathlib.Path(files[row]).read_bytes(), int(labels[row])) for row in rows]


def _also(left_out: Remarks) -> str:
  """Returns what was left out as the end of an error, since that may be why nothing is left."""
  return f' (left out: {left_out.text()})' if left_out.found else ''


def _shown(path: pathlib.Path) -> str:
  return printable(str(path))
