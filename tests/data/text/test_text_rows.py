"""Rows of tokens: windows of a stream, and documents packed side by side."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data.text import corpus
from data.text import rows as rows_lib

EOT = 256  # of the tokenizer `bytes`


def numbered(lengths: list[int], ends: bool) -> corpus.Tokens:
  """Documents whose tokens are all different: token i is i."""
  begins = np.cumsum([0, *(length + ends for length in lengths)])
  return corpus.Tokens(np.arange(begins[-1] + ends, dtype=np.uint32), begins, {})


def predicted(rows: dict[str, np.ndarray]) -> list[int]:
  return sorted(rows['tokens'][:, 1:][rows['mask'] > 0].tolist())


@settings(max_examples=100)
@given(size=st.integers(2, 200), block=st.integers(2, 40), seed=st.integers(0, 99))
def test_an_epoch_of_windows_predicts_every_token_once(size, block, seed):
  windows = rows_lib.Windows(numbered([size], ends=False), block)
  order = windows.order(seed)
  for epoch in range(2):
    rows = windows.read(order.rows(epoch, windows.size))
    assert predicted(rows) == list(range(1, size))
    assert (rows['mask'].sum(1) > 0).all()
    before, after = rows['tokens'][:, :-1], rows['tokens'][:, 1:]
    assert ((after - before == 1) | (rows['mask'] == 0)).all()


def test_windows_begin_elsewhere_in_every_epoch():
  windows = rows_lib.Windows(numbered([1000], ends=False), 10)
  order = windows.order(0)
  starts = [windows.read(order.rows(epoch, 100))['tokens'][:, 0] % 10 for epoch in range(8)]
  assert all(len(set(x.tolist())) == 1 for x in starts) and len({x[0] for x in starts}) > 3


@settings(max_examples=150)
@given(
  lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30),
  block=st.integers(2, 20),
  ends=st.booleans(),
)
def test_packing_loses_no_token_and_keeps_documents_apart(lengths, block, ends):
  tokens = numbered(lengths, ends)
  packed = rows_lib.PackedDocuments(tokens, block)
  rows = packed.read(np.arange(packed.size))
  starts = set() if ends else set(tokens.begins[:-1].tolist())
  assert predicted(rows) == sorted(set(range(1, len(tokens.stream))) - starts)
  assert set(rows['tokens'][rows['segments'] > 0].tolist()) == set(tokens.stream.tolist())

  document = np.searchsorted(tokens.begins, tokens.stream, side='right') - 1
  first, stop = tokens.spans
  whole = 0
  for ids, segments in zip(rows['tokens'], rows['segments'], strict=True):
    used = int((segments > 0).sum())
    assert (segments[:used] > 0).all() and not ids[used:].any()  # padding comes last
    for segment in range(1, segments.max() + 1):
      part = ids[segments == segment]
      np.testing.assert_array_equal(part, np.arange(part[0], part[0] + len(part)))
      owner = document[part[0]] if part[0] < tokens.begins[-1] else len(lengths) - 1
      assert first[owner] <= part[0] and part[-1] < stop[owner]
      whole += part[0] == first[owner] and len(part) == stop[owner] - first[owner]
  assert whole == (stop - first <= block + 1).sum()  # what fits into a row is not cut


@settings(max_examples=200)
@given(st.lists(st.integers(1, 32), min_size=1, max_size=60))
def test_best_fit_fills_rows_without_overflow(lengths):
  rows = rows_lib.best_fit(np.array(lengths), 32)
  filled = np.bincount(rows, weights=lengths)
  assert filled.max() <= 32 and (filled > 0).all()
  ideal = -(-sum(lengths) // 32)
  assert len(filled) <= np.ceil(11 / 9 * ideal + 6 / 9) + sum(x > 16 for x in lengths)
  assert np.sum(np.sort(filled)[:2]) > 32 or len(filled) == 1  # two rows never would fit into one


def test_best_fit_chooses_the_fullest_row_that_has_room():
  assert rows_lib.best_fit(np.array([2, 7, 5, 3, 5]), 10).tolist() == [2, 0, 1, 0, 1]
