"""Draws damaged forms of a valid file: bytes flipped, cut and spliced, JSON of other types."""

import json

from hypothesis import strategies as st

OTHER_VALUES: st.SearchStrategy = st.sampled_from(
  [
    None,
    True,
    -1,
    0,
    5,
    2**63,
    1.5,
    float('nan'),
    '',
    'x',
    '../x',
    '\ud800',
    [],
    [[]],
    {},
    {'a': 1},
  ]
)


@st.composite
def mutated(draw, raw: bytes) -> bytes:
  """Draws the bytes of a file with up to three changes of its JSON, or of its bytes."""
  changes = draw(st.sampled_from([(_change_json,), (_flip, _cut, _splice)]))
  for _ in range(draw(st.integers(1, 3))):
    raw = draw(st.sampled_from(changes))(draw, raw)
  return raw


def _flip(draw, raw):
  if not raw:
    return raw
  at = draw(st.integers(0, len(raw) - 1))
  return raw[:at] + bytes([raw[at] ^ draw(st.integers(1, 255))]) + raw[at + 1 :]


def _cut(draw, raw):
  return raw[: draw(st.integers(0, len(raw)))]


def _splice(draw, raw):
  first, last, to = sorted(draw(st.integers(0, len(raw))) for _ in range(3))
  return raw[:to] + raw[first:last] + raw[to:]


def _change_json(draw, raw):
  """Replaces a value of a JSON document, or removes it, if it is one."""
  try:
    document = json.loads(raw)
  except (ValueError, RecursionError):
    return raw
  return json.dumps(_changed(draw, document)).encode()


def _changed(draw, value):
  inner = isinstance(value, (dict, list)) and value
  if not inner or draw(st.integers(0, 3)) == 0:
    return draw(OTHER_VALUES)
  keys = list(value) if isinstance(value, dict) else range(len(value))
  key = draw(st.sampled_from(keys))
  changed = value.copy()
  if draw(st.integers(0, 5)) == 0:
    del changed[key]
  else:
    changed[key] = _changed(draw, value[key])
  return changed
