"""The cache: entries by what they depend on, and folders that are whole or not there."""

import errno
import multiprocessing
import os
import tempfile
import time

import numpy as np
import pytest

from data import cache


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  return tmp_path / 'breakthroughs' / 'data'


def load(folder):
  return (folder / 'text').read_text()


def test_an_entry_is_named_by_what_it_depends_on(root, tmp_path):
  file = tmp_path / 'file'
  file.write_text('x')
  first = cache.entry('my set', cache.fingerprints([str(file)]))
  assert first.parent == root and first.name.startswith('my-set-')
  assert first == cache.entry('my set', cache.fingerprints([str(file)]))
  before = os.stat(file)
  file.write_text('y')  # of the same size, and its time is set back
  os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
  assert first != cache.entry('my set', cache.fingerprints([str(file)]))


def test_a_user_without_a_home_has_a_cache(monkeypatch):
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)  # as without HOME and passwd
  assert cache.root().is_relative_to(tempfile.gettempdir())


def test_a_folder_appears_when_it_is_whole(root):
  folder = root / 'a'
  with pytest.raises(KeyboardInterrupt), cache.atomic_folder(folder) as unfinished:
    (unfinished / 'text').write_text('half')
    raise KeyboardInterrupt
  assert not list(root.iterdir())
  with cache.atomic_folder(folder) as unfinished:
    (unfinished / 'text').write_text('old')
  with cache.atomic_folder(folder) as unfinished:
    (unfinished / 'text').write_text('new')
    assert load(folder) == 'old'
  assert load(folder) == 'new' and list(root.iterdir()) == [folder]


def test_of_two_processes_one_is_kept(root, monkeypatch):
  def late(self, target):
    target.mkdir()
    raise OSError('not empty')

  monkeypatch.setattr(cache.Folder, 'rename', late)
  with cache.atomic_folder(root / 'a'):
    pass
  assert [x.name for x in root.iterdir()] == ['a']


def test_a_value_is_made_once(root):
  made = []

  def make():
    made.append(1)
    return 'value'

  def save(value, folder):
    (folder / 'text').write_text(value)

  for _ in range(2):
    assert cache.load_or_make(root / 'a', load, make, save) == 'value'
  assert made == [1]


def test_files_larger_than_memory_are_mapped_whether_they_are_kept_or_not(root):
  def write(folder):
    np.save(folder / 'x.npy', np.arange(5))

  def load(folder):
    return np.load(folder / 'x.npy', mmap_mode='r')

  for folder in (root / 'a', None):
    found = cache.load_or_write(folder, load, write)
    assert isinstance(found, np.memmap) and found.tolist() == [0, 1, 2, 3, 4]
  assert [x.name for x in root.iterdir()] == ['a']


# --- damage


def save_text(value, folder):
  (folder / 'text').write_text(value)


@pytest.mark.parametrize(
  ('spoil', 'reason'),
  [
    (lambda folder: (folder / 'text').write_bytes(b'valuf'), 'text is not as it was written'),
    (lambda folder: (folder / 'text').write_bytes(b''), 'text is not as it was written'),
    (lambda folder: (folder / 'text').unlink(), 'text is not as it was written'),
    (lambda folder: (folder / cache.CHECKSUMS).unlink(), 'has no checksums.json'),
    (lambda folder: (folder / cache.CHECKSUMS).write_text('[]'), 'text is not as it was written'),
    (lambda folder: (folder / cache.CHECKSUMS).write_text('{'), 'has no checksums.json'),
  ],
)
@pytest.mark.parametrize('call', ['load_or_make', 'load_or_write'])
def test_what_is_not_as_it_was_written_is_told_and_made_again(root, spoil, reason, call, caplog):
  made = []

  def make():
    made.append(1)
    return 'value'

  def get():
    if call == 'load_or_make':
      return cache.load_or_make(root / 'a', load, make, save_text)
    return cache.load_or_write(root / 'a', load, lambda folder: save_text(make(), folder))

  get()
  spoil(root / 'a')
  assert [get(), get()] == ['value', 'value'] and len(made) == 2
  [line] = [x.getMessage() for x in caplog.records]
  assert line.startswith(f'{root}/a: ') and reason in line and line.endswith('; it is made again')


def full(folder):
  (folder / 'text').write_text('half')
  raise OSError(errno.ENOSPC, 'No space left on device')


def test_without_room_a_value_is_not_kept(root, caplog):
  value = cache.load_or_make(root / 'a', load, lambda: 'value', lambda value, x: full(x))
  assert value == 'value' and not list(root.iterdir())
  assert 'a is not cached: No space left on device' in caplog.text


def test_without_room_files_go_to_another_disk(root, caplog):
  def write(folder):
    if folder.is_relative_to(root):
      full(folder)
    save_text('value', folder)

  assert cache.load_or_write(root / 'a', load, write) == 'value'
  assert not list(root.iterdir()) and 'a is not cached: No space' in caplog.text


def short(folder):
  raise OSError('284592 requested and 204672 written')  # by numpy.save


@pytest.mark.parametrize(('write', 'words'), [(full, 'No space left'), (short, r'no room \(2845')])
def test_without_room_anywhere_one_line_says_where(root, write, words):
  with pytest.raises(ValueError, match=rf'{tempfile.gettempdir()}: {words}.*; set TMPDIR'):
    cache.load_or_write(root / 'a', load, write)


def fill(folder):
  def slowly(folder):
    save_text('va', folder)
    time.sleep(0.2)
    save_text('value', folder)

  assert cache.load_or_write(folder, load, slowly) == 'value'


def test_processes_fill_an_entry_at_once(root):
  context = multiprocessing.get_context('spawn')
  workers = [context.Process(target=fill, args=(root / 'a',)) for _ in range(3)]
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()
  assert [worker.exitcode for worker in workers] == [0] * 3
  assert load(root / 'a') == 'value' and [x.name for x in root.iterdir()] == ['a']


def test_what_killed_processes_left_is_removed_after_a_day(root):
  old, new, other = 'unfinished-0123456789ab', 'unfinished-0123456789ac', 'unfinished-thesis'
  for name, age in ((old, 2 * cache.ABANDONED), (new, 0), (other, 2 * cache.ABANDONED)):
    (root / name).mkdir(parents=True)
    (root / name / 'text').write_text('half')
    for path in (root / name / 'text', root / name):
      os.utime(path, (time.time() - age,) * 2)
  cache.load_or_make(root / 'a', load, lambda: 'value', save_text)
  assert sorted(x.name for x in root.iterdir()) == ['a', new, other]


def test_a_long_name_is_cut(root):
  folder = cache.entry('x' * 5000, [])
  cache.load_or_make(folder, load, lambda: 'value', save_text)
  assert load(folder) == 'value'
