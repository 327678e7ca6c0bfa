"""Files of `torch.save`, old and new: their tensors are read, and nothing of them is run."""

import argparse
import io
import os
import pathlib
import pickle
import pickletools
import zipfile

import numpy as np
import pytest

from models.weights import torch_file, torch_pickle

torch = pytest.importorskip('torch')

LAYOUTS = [{}, {'_use_new_zipfile_serialization': False}, {'pickle_protocol': 4}]
each_layout = pytest.mark.parametrize('layout', LAYOUTS, ids=['zip', 'legacy', 'protocol 4'])


def tensors():
  numbers = torch.arange(12.0)
  return {
    'float': numbers.reshape(3, 4),
    'transposed': numbers.reshape(3, 4).T,
    'part': numbers[3:7],
    'half': torch.ones(3).half(),
    'bfloat': torch.arange(5).bfloat16(),
    'double': torch.full((2,), 0.1, dtype=torch.float64),
    'count': torch.tensor(3),
    'parameter': torch.nn.Parameter(torch.ones(2)),
    'none': torch.zeros(0, 3),
  }


def read(path):
  return torch_file.read_tensors(pathlib.Path(path))


def refused(path, message):
  with pytest.raises(ValueError, match=message) as caught:
    read(path)
  assert str(path) in str(caught.value) and '\n' not in str(caught.value)


@each_layout
def test_tensors_of_every_kind(layout, tmp_path):
  torch.save(tensors(), tmp_path / 'a.pth', **layout)
  found, part = read(tmp_path / 'a.pth')
  assert part == '' and list(found) == list(tensors())
  for name, x in tensors().items():
    assert found[name].shape == tuple(x.shape)
    np.testing.assert_array_equal(np.asarray(found[name], 'f8'), x.detach().double().numpy())
  kinds = {name: found[name].dtype for name in ('half', 'bfloat', 'count')}
  assert kinds == {'half': 'F16', 'bfloat': 'BF16', 'count': 'I64'}


@each_layout
def test_the_weights_of_a_checkpoint(layout, tmp_path):
  state, rest = {'module.w': torch.ones(2)}, {'args': argparse.Namespace(lr=1), 'epoch': 3}
  optimizer = {'state': {0: {'step': torch.zeros(1)}}}
  torch.save({'model': {}, 'ema': state, 'opt': optimizer, **rest}, tmp_path / 'a.pt', **layout)
  found, part = read(tmp_path / 'a.pt')
  assert (list(found), part) == (['w'], 'ema')


class Command:
  """What a hostile file holds: pickle would run it."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.system, (f'touch {self.path}',)


@each_layout
def test_nothing_is_run(layout, tmp_path):
  mark = tmp_path / 'it was run'
  for content in (Command(mark), {'w': torch.ones(2), 'x': Command(mark)}):
    torch.save(content, tmp_path / 'a.pth', **layout)
    refused(tmp_path / 'a.pth', r"asks for '(posix|nt)\.system', which is not run; only tensors")
  torch.save(torch.nn.Linear(2, 2), tmp_path / 'a.pth', **layout)
  refused(tmp_path / 'a.pth', r"asks for 'torch.nn.modules.linear.Linear', which is not run")
  assert not mark.exists()


def archive(path, program, **members):
  """A file of torch.save with that pickle."""
  with zipfile.ZipFile(path, 'w') as file:
    for name, content in {'data.pkl': program, **members}.items():
      file.writestr(f'a/{name}', content)


STORAGE = (
  b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ'
)


def tensor(shape, strides, offset=0):
  """The pickle of {'w': a tensor} over a storage of two numbers."""

  def ints(xs):
    return b'(' + b''.join(b'J' + x.to_bytes(4, 'little', signed=True) for x in xs) + b't'

  arguments = STORAGE + b'K' + bytes([offset]) + ints(shape) + ints(strides)
  return b'\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(' + arguments + b'tRs.'


def test_a_handmade_file_is_read(tmp_path):
  numbers = np.array([1, 2], '<f4').tobytes()
  archive(tmp_path / 'a.pth', tensor([2], [1]), **{'data/0': numbers})
  np.testing.assert_array_equal(np.asarray(read(tmp_path / 'a.pth')[0]['w']), [1, 2])


@pytest.mark.parametrize(
  ('program', 'message'),
  [
    (tensor([2**30], [0]), 'larger than its storage'),
    (tensor([2], [1], 1), 'larger than its storage'),
    (tensor([-2], [1]), 'whose shape is none'),
    (tensor([2], [-1]), 'whose shape is none'),
    (tensor([2], []), 'cut short, or not a file'),
    (b'\x80\x02cbuiltins\neval\n.', "asks for 'builtins.eval', which is not run"),
    (b'\x80\x02c__builtin__\nexec\nX\x01\x00\x00\x00a\x85R.', 'which is not run'),
    (b'\x80\x04\x8c\x02os\x8c\x06system\x93.', "asks for 'os.system', which is not run"),
    (b'\x80\x02}(K\x01K\x02\x86K\x03u.', 'keys that are neither texts nor numbers'),
    (b'\x80\x02K\x01.', 'holds no dict of tensors'),
    (b'\x80\x02}.', 'holds no tensors by name, only nothing'),
    (b'\x80\x02}X\x01\x00\x00\x00aK\x01s.', 'holds no tensors by name, only a'),
    (b'\x80\x02\x82\x01.', 'asks for the pickle operation EXT1'),
    (b'\x80\x02(ios\nsystem\n.', 'asks for the pickle operation INST'),
    (b'\x80\x02K\x01K\x02\x85R.', 'calls what is no function'),
    (b'\x80\x02', 'cut short, or not a file'),
    (b'', 'cut short, or not a file'),
  ],
)
def test_hostile_pickles_are_one_line(program, message, tmp_path):
  archive(tmp_path / 'a.pth', program, **{'data/0': b'12345678'})
  refused(tmp_path / 'a.pth', message)


def test_large_numbers_take_no_memory(tmp_path):
  """A place of the memo, a length and a tensor in a few bytes of the file."""
  huge = b'\xff\xff\xff\x7f'
  for program in (
    b'\x80\x02Nr' + huge + b'.',
    b'\x80\x02X' + huge + b'.',
    b'\x80\x04\x8d' + huge * 2,
  ):
    archive(tmp_path / 'a.pth', program)
    refused(tmp_path / 'a.pth', 'a.pth')


def test_tuples_in_tuples_are_no_keys(tmp_path):
  """The hash of fifty of them, each twice in the next, would never be done."""
  twice = b''.join(b'q%ch%c\x86' % (i, i) for i in range(50))
  archive(tmp_path / 'a.pth', b'\x80\x02}K\x01' + twice + b'K\x01s.')
  refused(tmp_path / 'a.pth', 'keys that are neither')


def test_what_is_cut_short_is_one_line(tmp_path):
  for layout in LAYOUTS[:2]:
    torch.save(tensors(), tmp_path / 'whole.pth', **layout)
    raw = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(raw[: len(raw) // 4])
    refused(tmp_path / 'cut.pth', 'cut short|whole file')
  torch.save({'w': torch.ones(9)}, tmp_path / 'whole.pth', **LAYOUTS[1])
  (tmp_path / 'cut.pth').write_bytes((tmp_path / 'whole.pth').read_bytes()[:-4])
  with pytest.raises(ValueError, match=r'cut.pth: w cannot be read .its storage has 32 bytes'):
    np.asarray(read(tmp_path / 'cut.pth')[0]['w'])


def test_a_changed_bit_is_found(tmp_path):
  """A zip archive has a checksum of every member."""
  torch.save({'w': torch.full((1000,), 0.5)}, tmp_path / 'a.pth')
  raw = bytearray((tmp_path / 'a.pth').read_bytes())
  raw[raw.index(np.full(2, 0.5, '<f4').tobytes()) + 100] ^= 1
  (tmp_path / 'a.pth').write_bytes(raw)
  with pytest.raises(ValueError, match=r'w cannot be read .*CRC'):
    np.asarray(read(tmp_path / 'a.pth')[0]['w'])


def test_other_files_are_one_line(tmp_path):
  archive(tmp_path / 'a.pth', b'', **{'other': b''})
  with zipfile.ZipFile(tmp_path / 'b.pth', 'w', zipfile.ZIP_DEFLATED) as file:
    file.writestr('a/data.pkl', tensor([2], [1]))
  with zipfile.ZipFile(tmp_path / 'c.pth', 'w') as file:
    file.writestr('readme.txt', 'hello')
  (tmp_path / 'd.pth').write_bytes(pickle.dumps({'w': 1}, 2))
  (tmp_path / 'e.pth').write_text('hello')
  (tmp_path / 'f.pth').touch()
  messages = {
    **{'b': 'is a compressed archive', 'c': 'without data.pkl', 'd': 'is a pickle, but no file of'},
    **{'e': 'neither safetensors nor a whole', 'f': 'neither safetensors nor a whole'},
  }
  for name, message in messages.items():
    refused(tmp_path / f'{name}.pth', message)


def test_the_operations_are_those_of_pickle():
  """What torch writes and nothing besides: each is known to Python by its name."""
  names = {opcode.name for opcode in pickletools.opcodes}
  assert set(torch_pickle.OPERATIONS) < names
  assert not {'INST', 'OBJ', 'EXT1', 'PERSID', 'NEWOBJ_EX'} & set(torch_pickle.OPERATIONS)
  buffer = io.BytesIO(pickle.dumps({'a': [1, (2.5, None, True)], 3: 'x'}, 2))
  assert torch_pickle.load(buffer) == {'a': [1, (2.5, None, True)], 3: 'x'}
