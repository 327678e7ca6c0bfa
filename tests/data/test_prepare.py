"""Fetching public data from a server in this process: what is right, and what is not."""

import errno
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data import prepare, published
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


def test_a_wrong_file_in_its_place_is_told(server, tmp_path):
  file, said = served(server, '/right', b'right'), []
  (tmp_path / 'right').write_bytes(b'wrong')
  assert prepare.fetch(file, tmp_path, said.append).read_bytes() == b'right'
  assert said[0] == f'{tmp_path}/right: is not the file that it should be; it is fetched again'


def test_an_unknown_name_lists_the_choices(tmp_path):
  with pytest.raises(ValueError, match='choose from mnist, fashion_mnist, cifar10, tiny'):
    prepare.prepare('imagenet', tmp_path)


# --- what is there, is damaged, is interrupted, cannot be written


@pytest.fixture
def mnist(server):
  """The sets to choose from: one of six images that is called mnist."""
  files = [
    served(server, f'/mnist-{split}-{n}.gz', idx(array[part]))
    for split, part in (('train', slice(0, 4)), ('test', slice(4, 6)))
    for n, array in enumerate((IMAGES, LABELS))
  ]
  chosen = prepare.SETS['mnist']
  return {'mnist': prepare.DataSet(tuple(files), chosen.write, chosen.place)}


def test_a_set_that_is_there_is_not_written_again(mnist, tmp_path, monkeypatch):
  folder = prepare.prepare('mnist', tmp_path, mnist, quiet)
  before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  monkeypatch.setattr(Handler, 'pages', {})
  said = []
  assert prepare.prepare('mnist', tmp_path, mnist, said.append) == folder
  assert said == ['is there already']
  assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize('name', ['features.json', 'mnist-test.array_record-00000-of-00001'])
def test_a_set_that_is_damaged_is_told_with_what_to_do(mnist, tmp_path, name):
  folder = prepare.prepare('mnist', tmp_path, mnist, quiet)
  (folder / name).write_bytes((folder / name).read_bytes()[:100])
  with pytest.raises(ValueError, match=rf'3\.0\.1.*; remove {folder} and prepare it again'):
    prepare.prepare('mnist', tmp_path, mnist, quiet)


def test_a_damaged_copy_of_a_text_is_replaced_without_a_network(server, tmp_path, monkeypatch):
  file = served(server, '/input.txt', b'First Citizen:', name='tiny_shakespeare.txt')
  sets = {'tiny': prepare.DataSet((file,), prepare.SETS['tiny_shakespeare'].write)}
  path = prepare.prepare('tiny', tmp_path, sets, quiet)
  path.write_bytes(b'')
  monkeypatch.setattr(Handler, 'pages', {})
  assert prepare.prepare('tiny', tmp_path, sets, quiet).read_bytes() == b'First Citizen:'


def test_a_download_that_is_interrupted_is_begun_again(server, tmp_path, monkeypatch):
  file = served(server, '/whole', b'whole')
  (tmp_path / 'whole.part').write_bytes(b'of a killed process')

  def interrupt(path):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(prepare, 'checksum', interrupt)
    prepare.fetch(file, tmp_path, quiet)
  assert list(tmp_path.iterdir()) == []
  assert prepare.fetch(file, tmp_path, quiet).read_bytes() == b'whole'


def test_what_a_killed_process_left_of_a_set_is_removed(mnist, tmp_path):
  (tmp_path / 'mnist' / 'incomplete.ABC_3.0.1').mkdir(parents=True)
  prepare.prepare('mnist', tmp_path, mnist, quiet)
  assert [path.name for path in (tmp_path / 'mnist').iterdir()] == ['3.0.1']


def test_a_file_that_does_not_end_is_not_read_to_its_end(server, tmp_path):
  file = served(server, '/long', bytes(5 << 20), size=1000)
  with pytest.raises(ValueError, match='expected 1000 bytes') as error:
    prepare.fetch(file, tmp_path, quiet)
  assert f'{1 << 20} bytes' in str(error.value)


def test_of_two_processes_one_waits_for_the_other(mnist, tmp_path):
  said, results = [], []

  def run(lines):
    results.append(prepare.prepare('mnist', tmp_path, mnist, lines.append))

  downloads = tmp_path / 'downloads' / 'mnist'
  downloads.mkdir(parents=True)
  with prepare._lock(downloads / '.lock', quiet):
    thread = threading.Thread(target=run, args=(said,))
    thread.start()
    while not said:
      time.sleep(0.01)
    assert said == ['another process prepares it; waiting'] and not (tmp_path / 'mnist').exists()
  thread.join()
  assert results == [tmp_path / 'mnist' / '3.0.1']


def full(*arguments, **options):
  raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('where', ['os.replace', 'open'])
def test_a_full_disk_is_told_in_a_line_and_leaves_no_half(
  mnist, tmp_path, where, monkeypatch, server
):
  if where == 'open':
    monkeypatch.setattr(prepare, 'open', full, raising=False)
  else:
    monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(ValueError, match=rf'{tmp_path}: cannot be written: No space left on device'):
    prepare.prepare('mnist', tmp_path, mnist, quiet)
  assert not [path for path in tmp_path.rglob('*') if path.is_file() and path.name != '.lock']


def test_a_disk_that_is_full_before_all_records_are_written_is_told(mnist, tmp_path, monkeypatch):
  def fail(self):
    raise RuntimeError('write() failed: No space left on device')

  monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, 'download_and_prepare', fail)
  with pytest.raises(ValueError, match=rf'{tmp_path}: cannot be written: write\(\) failed: No sp'):
    prepare.prepare('mnist', tmp_path, mnist, quiet)


def test_a_folder_that_cannot_be_made_is_named(mnist, tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match=rf'{tmp_path}/file/downloads.*: cannot be written: Not a'):
    prepare.prepare('mnist', tmp_path / 'file', mnist, quiet)


def test_sets_are_found_where_they_are_written(monkeypatch, tmp_path):
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  monkeypatch.setenv('HOME', str(tmp_path))
  assert published.root() == tmp_path / 'tensorflow_datasets'
  monkeypatch.setenv('TFDS_DATA_DIR', '/elsewhere')
  assert str(published.root()) == '/elsewhere' and str(published.root('~')) == str(tmp_path)
  assert prepare.SETS.keys() == published.FILES.keys()
