"""Damaged texts to translate: each line comes whole, or a UserError says where reading ended."""

import gzip
import re

import hypothesis
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from tests.mutated import mutated
from train.errors import UserError
from train.tasks.translation import translate

TEXT = 'Ein Hund läuft.\r\n\nZwei\u2028Zeilen\x85, eine.\n«Ça va ?»\t\nohne Ende'.encode()
FILES = {'a': TEXT, 'a.gz': gzip.compress(TEXT, mtime=0)}


@fuzzed
@hypothesis.given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_fuzz_lines(tmp_path_factory, name, data):
  path = tmp_path_factory.mktemp('lines') / name
  raw = data.draw(mutated(FILES[name]))
  path.write_bytes(raw)
  lines = []
  try:
    lines += translate.read_lines(str(path))
  except UserError as error:
    assert re.match(rf'{re.escape(str(path))}, line \d+', str(error))
    assert len(str(error).splitlines()) == 1
    return
  text = gzip.decompress(raw) if name == 'a.gz' else raw
  assert len(lines) == text.count(b'\n') + (not text.endswith(b'\n') and text != b'')
  assert all('\n' not in line for line in lines)
