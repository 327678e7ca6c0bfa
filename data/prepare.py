"""Fetches the public data sets that the configs name, checks them, and writes them where they look.

Each file comes from its official address (`data.published`) and is checked by size and SHA-256.
Image sets become TFDS sets stored as ArrayRecord, which needs no TensorFlow; texts and vocabularies
are kept as they are. All of it goes to one folder, TFDS's `data_dir`. What is interrupted leaves
nothing under a right name, and is begun again; of two processes one waits for the other.
"""

import contextlib
import dataclasses
import fcntl
import gzip
import hashlib
import http.client
import io
import os
import pathlib
import shutil
import tarfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from data import checks, published, tfds
from data.published import File

CHUNK = 1 << 20  # bytes read at a time
TIMEOUT = 60  # seconds without a byte

Example = tuple[np.ndarray, int]
"""uint8 `[H, W]` or `[H, W, 3]`, and its label."""


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A data set: its files, and how they are written.

  Attributes:
    files: what is fetched.
    write: from the fetched files' paths and the root folder to what was written.
    place: where a TFDS set lies below the root folder; '' for other sets.
  """

  files: tuple[File, ...]
  write: Callable[[list[pathlib.Path], pathlib.Path], pathlib.Path]
  place: str = ''


def prepare(
  name: str,
  root: str | os.PathLike | None = None,
  sets: Mapping[str, DataSet] | None = None,
  say: Callable[[str], None] = print,
) -> pathlib.Path:
  """Fetches, checks and writes a data set; returns where it is.

  Args:
    name: of SETS.
    root: the folder; `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`, unless given.
    sets: what there is to choose from; SETS unless given.
    say: is told what is being done, a line each time.

  Raises:
    ValueError: no such set; a file that cannot be fetched, or is not the one that it should be; a
      set that is there and damaged; a folder that cannot be written.
  """
  sets = SETS if sets is None else sets
  if name not in sets:
    raise ValueError(f'{checks.shown(name)}: no such data set; choose from {", ".join(sets)}')
  place = published.root(root)
  try:
    if not _is_there(sets[name], place, say):
      downloads = place / 'downloads' / name
      downloads.mkdir(parents=True, exist_ok=True)
      with _lock(downloads / '.lock', say):
        return _write(sets[name], downloads, place, say)
  except OSError as error:
    where = error.filename or place
    raise ValueError(f'{where}: cannot be written: {error.strerror or error}') from error
  return place / sets[name].place


def _is_there(chosen: DataSet, root: pathlib.Path, say: Callable[[str], None]) -> bool:
  """Tells whether a TFDS set is there already; raises ValueError if it is and is damaged."""
  folder = root / chosen.place
  if not chosen.place or not folder.exists():
    return False
  try:
    tfds.open_folder(folder.parent.name, folder).check()
  except ValueError as error:
    raise ValueError(f'{error}; remove {folder} and prepare it again') from error
  say('is there already')
  return True


@contextlib.contextmanager
def _lock(path: pathlib.Path, say: Callable[[str], None]) -> Iterator[None]:
  """Holds a file for this process alone; the system lets go of it when the process ends."""
  with open(path, 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      say('another process prepares it; waiting')
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _write(
  chosen: DataSet, downloads: pathlib.Path, root: pathlib.Path, say: Callable[[str], None]
) -> pathlib.Path:
  if _is_there(chosen, root, say):  # by the process that was waited for
    return root / chosen.place
  paths = [fetch(file, downloads, say) for file in chosen.files]
  if chosen.place:
    for killed in (root / chosen.place).parent.glob('incomplete.*'):
      shutil.rmtree(killed)
  return chosen.write(paths, root)


def fetch(file: File, folder: pathlib.Path, say: Callable[[str], None] = print) -> pathlib.Path:
  """Returns the path of a file in the folder, fetched unless it is there already, and checked.

  Raises:
    ValueError: it cannot be fetched, or its size or checksum is not as it should be; no part of
      it stays.
    OSError: it cannot be written; likewise.
  """
  path = folder / file.file_name
  if path.exists():
    if checksum(path) == (file.size, file.sha256):
      return path
    say(f'{path}: is not the file that it should be; it is fetched again')
  say(f'fetching {file.url} ({file.size / 1e6:.1f} MB)')
  part = path.with_name(f'{path.name}.part')
  try:
    with open(part, 'wb') as out:
      for block in _download(file, folder):
        out.write(block)
    found = checksum(part)
    if found != (file.size, file.sha256):
      raise ValueError(
        f'{file.url}: is not the file that it should be: {found[0]} bytes, SHA-256'
        f' {found[1][:16]}..., expected {file.size} bytes, {file.sha256[:16]}...'
      )
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)
  return path


def _download(file: File, folder: pathlib.Path) -> Iterator[bytes]:
  """Yields the contents of an address, and of a file that is too long no more than shows it."""
  size = 0
  try:
    with urllib.request.urlopen(file.url, timeout=TIMEOUT) as response:
      while size <= file.size and (block := response.read(CHUNK)):
        size += len(block)
        yield block
  except (OSError, http.client.HTTPException) as error:
    reason = getattr(error, 'reason', error) or type(error).__name__
    raise ValueError(
      f'{file.url}: cannot be fetched ({reason}); on a machine without a network put the file into'
      f' {folder} and run this again'
    ) from error


def checksum(path: pathlib.Path) -> tuple[int, str]:
  """Returns the size in bytes and the SHA-256 of a file."""
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256')
  return path.stat().st_size, digest.hexdigest()


# -------- what the files hold --------


def read_idx(path: pathlib.Path) -> np.ndarray:
  """Returns the uint8 array of a gzipped file in MNIST's format (IDX): `[N, 28, 28]` or `[N]`."""
  data = gzip.decompress(path.read_bytes())
  axes = data[3]
  shape = np.frombuffer(data, '>u4', axes, 4)
  return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def mnist_examples(images: pathlib.Path, labels: pathlib.Path) -> Iterator[Example]:
  """Yields the examples of two IDX files."""
  for image, label in zip(read_idx(images), read_idx(labels), strict=True):
    yield image, int(label)


def cifar10_examples(archive: pathlib.Path, names: tuple[str, ...]) -> Iterator[Example]:
  """Yields the examples of CIFAR-10's binary version: a label, then planes `[3, 32, 32]`."""
  with tarfile.open(archive) as members:
    for name in names:
      file = members.extractfile(f'cifar-10-batches-bin/{name}')
      assert file is not None, name
      rows = np.frombuffer(file.read(), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
      for row in rows:
        yield row[1:].reshape(3, 32, 32).transpose(1, 2, 0), int(row[0])


# -------- how they are written --------


def write_images(
  root: pathlib.Path,
  name: str,
  version: str,
  classes: tuple[str, ...],
  splits: Mapping[str, Callable[[], Iterator[Example]]],
) -> pathlib.Path:
  """Writes a TFDS set of PNG images and labels as ArrayRecord; returns its folder."""
  import tensorflow_datasets as tfds  # half a second
  from tensorflow_datasets.core import registered

  first, _ = next(splits['train']())
  shape = first.shape if first.ndim == 3 else (*first.shape, 1)
  features = tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=shape),
      'label': tfds.features.ClassLabel(names=list(classes)),
    }
  )

  with registered.skip_registration():

    class Prepared(tfds.core.GeneratorBasedBuilder):
      """A TFDS set of the given name, whose examples are encoded already."""

      VERSION = tfds.core.Version(version)
      url_infos: Mapping[str, str] = {}  # nothing is downloaded by TFDS

      def _info(self):
        return tfds.core.DatasetInfo(
          builder=self, features=features, supervised_keys=('image', 'label')
        )

      def _split_generators(self, dl_manager):
        return {split: self._generate_examples(make()) for split, make in splits.items()}

      def _generate_examples(self, examples):
        for number, (image, label) in enumerate(examples):
          yield number, {'image': _png(image), 'label': label}

    Prepared.name = name
    builder = Prepared(data_dir=str(root), file_format='array_record')
    try:
      builder.download_and_prepare()
    except RuntimeError as error:  # so ArrayRecord tells that a disk is full
      raise ValueError(f'{root}: cannot be written: {error}') from error
  return pathlib.Path(builder.data_path)


def _png(image: np.ndarray) -> io.BytesIO:
  out = io.BytesIO()
  Image.fromarray(image).save(out, 'PNG')
  out.seek(0)
  return out


def _mnist_like(
  name: str, version: str, classes: tuple[str, ...]
) -> Callable[[list[pathlib.Path], pathlib.Path], pathlib.Path]:
  def write(paths: list[pathlib.Path], root: pathlib.Path) -> pathlib.Path:
    train, test = paths[:2], paths[2:]
    splits = {'train': lambda: mnist_examples(*train), 'test': lambda: mnist_examples(*test)}
    return write_images(root, name, version, classes, splits)

  return write


def _write_cifar10(paths: list[pathlib.Path], root: pathlib.Path) -> pathlib.Path:
  batches = tuple(f'data_batch_{n}.bin' for n in range(1, 6))
  splits = {
    'train': lambda: cifar10_examples(paths[0], batches),
    'test': lambda: cifar10_examples(paths[0], ('test_batch.bin',)),
  }
  return write_images(root, 'cifar10', '3.0.2', CIFAR10_CLASSES, splits)


def _keep(folder: str) -> Callable[[list[pathlib.Path], pathlib.Path], pathlib.Path]:
  """Returns a writer that copies the files as they are; returns the folder, or the one file."""

  def write(paths: list[pathlib.Path], root: pathlib.Path) -> pathlib.Path:
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    for path in paths:  # under the right name only when it is whole
      copy = shutil.copy(path, place / f'{path.name}.part')
      os.replace(copy, place / path.name)
    return place if len(paths) > 1 else place / paths[0].name

  return write


CIFAR10_CLASSES = (
  *('airplane', 'automobile', 'bird', 'cat', 'deer'),
  *('dog', 'frog', 'horse', 'ship', 'truck'),
)
FASHION_CLASSES = (
  *('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat'),
  *('Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'),
)
SETS: dict[str, DataSet] = {
  'mnist': DataSet(
    published.FILES['mnist'], _mnist_like('mnist', '3.0.1', tuple('0123456789')), 'mnist/3.0.1'
  ),
  'fashion_mnist': DataSet(
    published.FILES['fashion_mnist'],
    _mnist_like('fashion_mnist', '3.0.1', FASHION_CLASSES),
    'fashion_mnist/3.0.1',
  ),
  'cifar10': DataSet(published.FILES['cifar10'], _write_cifar10, 'cifar10/3.0.2'),
  'tiny_shakespeare': DataSet(published.FILES['tiny_shakespeare'], _keep('.')),
  'gpt2_bpe': DataSet(published.FILES['gpt2_bpe'], _keep('gpt2_bpe')),
}
