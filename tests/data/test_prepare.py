"""Fetching public data from a server in this process: what is right, and what is not."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from data import prepare
from data.images import datasets

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 28, 28)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 9, 3, 3], np.uint8)


def idx(array):
  head = bytes([0, 0, 8, array.ndim]) + b''.join(n.to_bytes(4, 'big') for n in array.shape)
  return gzip.compress(head + array.tobytes())


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves the dict `pages`; a path that begins with /cut ends half way."""

  pages: dict = {}

  def do_GET(self):
    name = self.path.removeprefix('/cut')
    body = self.pages.get(name)
    if body is None:
      self.send_error(404)
      return
    self.send_response(200)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body[: len(body) // 2] if self.path.startswith('/cut') else body)

  def log_message(self, *arguments):
    pass


@pytest.fixture(scope='module')
def server():
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as served:
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{served.server_port}'
    served.shutdown()


def served(server, path, body, **changes):
  Handler.pages[path] = body
  told = dict(size=len(body), sha256=hashlib.sha256(body).hexdigest())
  return prepare.File(server + path, **{**told, **changes})


def quiet(text):
  del text


def test_a_text_is_kept_under_its_name(server, tmp_path):
  file = served(server, '/input.txt', b'First Citizen:', name='tiny_shakespeare.txt')
  sets = {'tiny': prepare.DataSet((file,), prepare.SETS['tiny_shakespeare'].write)}
  path = prepare.prepare('tiny', tmp_path, sets, quiet)
  assert path == tmp_path / 'tiny_shakespeare.txt'
  assert path.read_bytes() == b'First Citizen:'


def test_mnist_s_files_become_a_set_that_is_read_by_name(server, tmp_path):
  files = [
    served(server, f'/{split}-{n}.gz', idx(array[part]))
    for split, part in (('train', slice(0, 4)), ('test', slice(4, 6)))
    for n, array in enumerate((IMAGES, LABELS))
  ]
  sets = {'mnist': prepare.DataSet(tuple(files), prepare.SETS['mnist'].write)}
  folder = prepare.prepare('mnist', tmp_path, sets, quiet)
  assert folder == tmp_path / 'mnist' / '3.0.1'
  found = datasets.load('mnist', str(tmp_path))
  assert [found[split].size for split in ('train', 'test')] == [4, 2]
  assert found['train'].classes == tuple('0123456789')
  labels = [label for _, label in found['train'].read(range(4))]
  assert sorted(labels) == sorted(LABELS[:4].tolist())


def test_cifar10_s_planes_become_pixels(tmp_path):
  pixels = RNG.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
  rows = [bytes([label]) + x.transpose(2, 0, 1).tobytes() for label, x in zip((3, 8), pixels)]  # noqa: B905
  body = b''.join(rows)
  with tarfile.open(tmp_path / 'cifar.tar.gz', 'w:gz') as archive:
    info = tarfile.TarInfo('cifar-10-batches-bin/test_batch.bin')
    info.size = len(body)
    archive.addfile(info, io.BytesIO(body))
  found = list(prepare.cifar10_examples(tmp_path / 'cifar.tar.gz', ('test_batch.bin',)))
  assert [label for _, label in found] == [3, 8]
  np.testing.assert_array_equal([image for image, _ in found], pixels)


@pytest.mark.parametrize(
  ('path', 'changes', 'message'),
  [
    (
      '/a',
      {'sha256': '0' * 64},
      r'is not the file that it should be: 5 bytes, .* expected 5 bytes',
    ),
    ('/a', {'size': 7}, 'expected 7 bytes'),
    ('/cut/a', {}, r'cut/a: (is not the file|cannot be fetched)'),
    ('/absent', {}, r'cannot be fetched \(.*Not Found.*\); on a machine without a network put'),
  ],
)
def test_what_is_wrong_is_named_and_leaves_nothing(server, tmp_path, path, changes, message):
  told = served(server, '/a', b'hello', **changes)
  file = prepare.File(server + path, told.size, told.sha256)
  with pytest.raises(ValueError, match=message):
    prepare.fetch(file, tmp_path, quiet)
  assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_says_where_to_put_the_file(tmp_path):
  file = prepare.File('http://127.0.0.1:9/x.gz', 1, '0' * 64)
  with pytest.raises(ValueError, match=rf'cannot be fetched .*put the file into {tmp_path}'):
    prepare.fetch(file, tmp_path, quiet)


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
  file = served(server, '/once', b'once')
  prepare.fetch(file, tmp_path, quiet)
  del Handler.pages['/once']
  assert prepare.fetch(file, tmp_path, quiet).read_bytes() == b'once'


def test_an_unknown_name_lists_the_choices(tmp_path):
  with pytest.raises(ValueError, match='choose from mnist, fashion_mnist, cifar10, tiny'):
    prepare.prepare('imagenet', tmp_path)
