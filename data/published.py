"""Public data that `launch.py prepare` fetches: addresses, sizes, checksums, and where they go."""

import dataclasses
import os
import pathlib


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


def root(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
  """Returns the folder of prepared data: `data_dir`, else $TFDS_DATA_DIR, else TFDS's own."""
  given = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(os.path.expanduser(given))


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
FILES: dict[str, tuple[File, ...]] = {
  'mnist': _idx_files(
    _MNIST,
    (9912422, '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
    (28881, '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
    (1648877, '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
    (4542, 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'),
  ),
  'fashion_mnist': _idx_files(
    _FASHION,
    (26421880, '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84'),
    (29515, 'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845'),
    (4422102, '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073'),
    (5148, '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5'),
  ),
  'cifar10': (
    File(
      'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
      170052171,
      'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
    ),
  ),
  'tiny_shakespeare': (
    File(
      f'{_SHAKESPEARE}/input.txt',
      1115394,
      '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed',
      'tiny_shakespeare.txt',
    ),
  ),
  'gpt2_bpe': (
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
}
