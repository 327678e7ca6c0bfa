"""A damaged file of `torch.save` is refused by a ValueError of one line, or read as numbers."""

import pathlib
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from models.weights import torch_file
from tests.fuzzing import fuzzed
from tests.mutated import mutated

MOST_VALUES = 100_000  # no file here has more bytes


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """A checkpoint in the layouts of today and of 2018."""
  torch = pytest.importorskip('torch')
  root = tmp_path_factory.mktemp('whole')
  state = {'w': torch.arange(6.0).reshape(2, 3).T, 'n': torch.tensor(3), 'h': torch.ones(2).half()}
  content = {'state_dict': state, 'epoch': 3, 'loss': [0.5, None, True]}
  torch.save(content, root / 'zip.pth')
  torch.save(content, root / 'legacy.pth', _use_new_zipfile_serialization=False)
  return root


@st.composite
def damaged(draw, root: pathlib.Path) -> bytes:
  """Draws a file with other bytes anywhere, or a whole archive of another pickle."""
  raw = (root / draw(st.sampled_from(['zip.pth', 'legacy.pth']))).read_bytes()
  if draw(st.booleans()) or raw[:2] != b'PK':
    return draw(mutated(raw))
  path = root / 'made.pth'
  with zipfile.ZipFile(root / 'zip.pth') as whole, zipfile.ZipFile(path, 'w') as made:
    for name in whole.namelist():
      content = whole.read(name)
      made.writestr(name, draw(mutated(content)) if name.endswith('data.pkl') else content)
  return path.read_bytes()


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_torch_files(files, data):
  path = files / 'damaged.pth'
  path.write_bytes(data.draw(damaged(files)))
  try:
    tensors, _ = torch_file.read_tensors(path)
    arrays = [np.asarray(x) for x in tensors.values()]
  except ValueError as error:
    assert len(str(error).splitlines()) == 1 and len(str(error)) < 1000
    return
  assert all(x.size < MOST_VALUES for x in arrays)
