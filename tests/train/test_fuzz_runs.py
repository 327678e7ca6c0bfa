"""Run folders with damage: a run is what it was, or it is refused in one line."""

import contextlib
import json
import pathlib

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from train import config as config_lib
from train import run, verbs
from train.compatibility import check_same
from train.errors import UserError
from train.logging import metrics

RECORDS = 'config.json', 'meaning.json', 'fingerprints.json', 'run.json', 'metrics.jsonl'
OTHER_VALUES: tuple = (None, True, -1, 2**63, 0.5, 'x', '\x00', [], {}, [[1]])


@pytest.fixture(scope='module')
def workdir(tmp_path_factory, one_device):
  folder = tmp_path_factory.mktemp('fuzz') / 'run'
  config = config_lib.load('configs/lenet_digits.py')
  config['train'] |= dict(steps=4, log_every=2, eval_every=2)
  verbs.train(verbs.complete_config(config), str(folder))
  return folder


def places(value, path=()):
  """Yields the path to each value within a value of JSON."""
  yield path
  items = {dict: dict, list: enumerate}.get(type(value), lambda leaf: ())
  for key, inner in dict(items(value)).items():
    yield from places(inner, (*path, key))


@st.composite
def other_json(draw, contents):
  """JSON in which one value, or the whole, is another or is absent."""
  root = [json.loads(contents)]
  *path, last = draw(st.sampled_from(list(places(root))[1:]))
  node = root
  for key in path:
    node = node[key]
  if draw(st.booleans()) and path:
    del node[last]
  else:
    node[last] = draw(st.sampled_from(OTHER_VALUES))
  return json.dumps(root[0]).encode()


@st.composite
def damaged(draw, contents):
  """Bytes cut, flipped, repeated or mixed with others; None where the file is gone."""
  kind = draw(st.sampled_from(['cut', 'flip', 'insert', 'repeat', 'zeros', 'gone']))
  place = draw(st.integers(0, len(contents)))
  match kind:
    case 'cut':
      return contents[:place]
    case 'flip' if place < len(contents):
      bit = 1 << draw(st.integers(0, 7))
      return contents[:place] + bytes([contents[place] ^ bit]) + contents[place + 1 :]
    case 'insert':
      return contents[:place] + draw(st.binary(max_size=8)) + contents[place:]
    case 'repeat':
      return contents + contents[place:]
    case 'zeros':
      return contents[:place] + bytes(len(contents) - place)
  return None


@contextlib.contextmanager
def replaced(path: pathlib.Path, contents: bytes | None):
  before = path.read_bytes()
  try:
    if contents is None:
      path.unlink()
    else:
      path.write_bytes(contents)
    yield
  finally:
    path.write_bytes(before)


def answers(read):
  """Returns what `read` does; None where it is refused in one line."""
  try:
    return read()
  except UserError as error:
    assert str(error).isprintable()
    return None


def read_records(folder, load):
  name = str(folder)
  config = verbs.complete_config(config_lib.load('configs/lenet_digits.py'))
  config['train'] |= dict(steps=4, log_every=2, eval_every=2)
  answers(lambda: check_same(config, name))
  answers(lambda: verbs.complete_config(run.read_config(name)))
  answers(lambda: run.read_meaning(name))
  answers(lambda: run.read_fingerprints(name))
  metrics.read(name)
  if load:
    answers(lambda: run.load_weights(name))


@fuzzed
@given(st.sampled_from(RECORDS), st.data())
def test_fuzz_of_records(workdir, name, data):
  contents = (workdir / name).read_bytes()
  forms = (
    [damaged(contents)] if name == 'metrics.jsonl' else [damaged(contents), other_json(contents)]
  )
  with replaced(workdir / name, data.draw(st.one_of(forms))):
    read_records(workdir, load=name == 'config.json')


@pytest.mark.long
@fuzzed
@given(st.data())
def test_fuzz_of_checkpoints(workdir, data):
  """The weights of a step to the bit, or none."""
  whole = weights(workdir)
  files = sorted(path for path in (workdir / 'checkpoints').rglob('*') if path.is_file())
  path = data.draw(st.sampled_from(files))
  with replaced(path, data.draw(damaged(path.read_bytes()))):
    found = answers(lambda: run.load_weights(str(workdir)))
  if found is not None:
    jax.tree.map(np.testing.assert_array_equal, found.variables, whole[found.step])


_whole: dict = {}


def weights(workdir):
  if not _whole:
    _whole.update({step: run.load_weights(str(workdir), step).variables for step in (2, 4)})
  return _whole
