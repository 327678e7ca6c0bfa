"""The cache: entries by what they depend on, and folders that are whole or not there."""

import os

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
  os.utime(file, ns=(0, 0))
  assert first != cache.entry('my set', cache.fingerprints([str(file)]))


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
