"""A damaged network of Leela Zero is refused by a ValueError of one line, or read as numbers."""

import gzip

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from models.weights import leelaz
from tests.fuzzing import fuzzed
from tests.models.weights import leela_networks
from tests.mutated import mutated


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  path, _ = leela_networks.written(tmp_path_factory.mktemp('whole') / 'net.txt', size=2, channels=1)
  return path.read_bytes()


@st.composite
def damaged(draw, whole: bytes) -> bytes:
  """Draws a file with lines moved, left out or doubled, or with other bytes, gzipped or not."""
  lines = whole.splitlines(keepends=True)
  if draw(st.booleans()):
    a, b = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[a] = draw(st.sampled_from([lines[b], b'', lines[a] + lines[b], b'nan\n', b'1e99\n']))
    raw = b''.join(lines)
  else:
    raw = draw(mutated(whole))
  return draw(mutated(gzip.compress(raw, 1))) if draw(st.booleans()) else raw


@fuzzed
@hypothesis.given(data=st.data())
def test_fuzz_leelaz(whole, tmp_path_factory, data):
  path = tmp_path_factory.getbasetemp() / 'damaged.net'
  path.write_bytes(data.draw(damaged(whole)))
  leelaz.recognises(path)
  try:
    model, size, variables = leelaz.from_leelaz(path)
  except ValueError as error:
    assert len(str(error).splitlines()) == 1 and len(str(error)) < 1000
    return
  assert model.num_actions == size**2 + 1
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))
