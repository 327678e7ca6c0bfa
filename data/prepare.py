"""Fetches the public data sets that the configs name, checks them, and writes them where they look.

Each file comes from its official address and is checked by size and SHA-256. Image sets become TFDS
sets stored as ArrayRecord, which needs no TensorFlow; texts and vocabularies are kept as they are.
All of it goes to one folder, TFDS's `data_dir`.
"""

import dataclasses
import gzip
import hashlib
import io
import os
import pathlib
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

CHUNK = 1 << 20  # bytes read at a time
TIMEOUT = 60  # seconds without a byte

Example = tuple[np.ndarray, int]
"""uint8 `[H, W]` or `[H, W, 3]`, and its label."""


@dataclasses.dataclass(frozen=True)
class File:
  """A file at its official address.

  Attributes:
    url: where it is.
    size: bytes.
    sha256: of its contents, in hexadecimal.
    name: what it is called here; by default as there.
  """

  url: str
  size: int
  sha256: str
  name: str = ''

  @property
  def file_name(self) -> str:
    """Returns what the file is called here."""
    return self.name or self.url.rsplit('/', 1)[1]


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A data set: its files, and how they are written.

  Attributes:
    files: what is fetched.
    write: from the fetched files' paths and the root folder to what was written.
  """

  files: tuple[File, ...]
  write: Callable[[list[pathlib.Path], pathlib.Path], pathlib.Path]


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
    ValueError: no such set; a file that cannot be fetched, or is not the one that it should be.
  """
  sets = SETS if sets is None else sets
  if name not in sets:
    raise ValueError(f'{name!r}: no such data set; choose from {", ".join(sets)}')
  folder = root or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  place = pathlib.Path(folder).expanduser()
  downloads = place / 'downloads' / name
  downloads.mkdir(parents=True, exist_ok=True)
  paths = [fetch(file, downloads, say) for file in sets[name].files]
  return sets[name].write(paths, place)


def fetch(file: File, folder: pathlib.Path, say: Callable[[str], None] = print) -> pathlib.Path:
  """Returns the path of a file in the folder, fetched unless it is there already, and checked.

  Raises:
    ValueError: it cannot be fetched, or its size or checksum is not as it should be; no part of
      it stays.
  """
  path = folder / file.file_name
  if path.exists() and checksum(path) == (file.size, file.sha256):
    return path
  say(f'fetching {file.url} ({file.size / 1e6:.1f} MB)')
  part = path.with_name(f'{path.name}.part')
  try:
    _download(file.url, part)
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


def _download(url: str, path: pathlib.Path) -> None:
  try:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(path, 'wb') as out:
      while block := response.read(CHUNK):
        out.write(block)
  except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
    reason = getattr(error, 'reason', error)
    raise ValueError(
      f'{url}: cannot be fetched ({reason}); on a machine without a network put the file into'
      f' {path.parent} and run this again'
    ) from error


def checksum(path: pathlib.Path) -> tuple[int, str]:
  """Returns the size in bytes and the SHA-256 of a file."""
  digest, size = hashlib.sha256(), 0
  with open(path, 'rb') as file:
    while block := file.read(CHUNK):
      digest.update(block)
      size += len(block)
  return size, digest.hexdigest()


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
    builder.download_and_prepare()
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
  """Returns a writer that moves the files as they are; returns the folder, or the one file."""

  def write(paths: list[pathlib.Path], root: pathlib.Path) -> pathlib.Path:
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    kept = [path.replace(place / path.name) for path in paths]
    return place if len(kept) > 1 else kept[0]

  return write


CIFAR10_CLASSES = (
  *('airplane', 'automobile', 'bird', 'cat', 'deer'),
  *('dog', 'frog', 'horse', 'ship', 'truck'),
)
FASHION_CLASSES = (
  *('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat'),
  *('Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'),
)
_MNIST = 'https://storage.googleapis.com/cvdf-datasets/mnist'
_FASHION = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com'
_GPT2 = 'https://openaipublic.blob.core.windows.net/gpt-2/encodings/main'
_SHAKESPEARE = 'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare'


def _idx_files(address: str, *sums: tuple[int, str]) -> tuple[File, ...]:
  names = [
    f'{split}-{part}-ubyte.gz'
    for split in ('train', 't10k')
    for part in ('images-idx3', 'labels-idx1')
  ]
  return tuple(
    File(f'{address}/{name}', size, sha) for name, (size, sha) in zip(names, sums, strict=True)
  )


# Sizes and checksums of MNIST, Fashion-MNIST and CIFAR-10 are those that TFDS pins.
SETS: dict[str, DataSet] = {
  'mnist': DataSet(
    _idx_files(
      _MNIST,
      (9912422, '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
      (28881, '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
      (1648877, '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
      (4542, 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'),
    ),
    _mnist_like('mnist', '3.0.1', tuple('0123456789')),
  ),
  'fashion_mnist': DataSet(
    _idx_files(
      _FASHION,
      (26421880, '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84'),
      (29515, 'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845'),
      (4422102, '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073'),
      (5148, '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5'),
    ),
    _mnist_like('fashion_mnist', '3.0.1', FASHION_CLASSES),
  ),
  'cifar10': DataSet(
    (
      File(
        'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
        170052171,
        'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
      ),
    ),
    _write_cifar10,
  ),
  'tiny_shakespeare': DataSet(
    (
      File(
        f'{_SHAKESPEARE}/input.txt',
        1115394,
        '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed',
        'tiny_shakespeare.txt',
      ),
    ),
    _keep('.'),
  ),
  'gpt2_bpe': DataSet(
    (
      File(
        f'{_GPT2}/encoder.json',
        1042301,
        '196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783',
      ),
      File(
        f'{_GPT2}/vocab.bpe',
        456318,
        '1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5',
      ),
    ),
    _keep('gpt2_bpe'),
  ),
}
