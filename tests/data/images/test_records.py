"""Images in memory as a data set: what does not fit is refused by name."""

import numpy as np
import pytest

from data.images import records
from data.images.records import from_arrays
from data.remarks import Remarks

IMAGES = np.zeros((8, 4, 4, 1), np.uint8)
LABELS = np.arange(8) % 2


def test_what_fits_is_read():
  dots = from_arrays('dots', IMAGES, LABELS, ('a', 'b'))
  assert (dots.size, dots.channels, dots.classes) == (8, 1, ('a', 'b'))
  assert [label for _, label in dots.read([1, 2])] == [1, 0]


@pytest.mark.parametrize(
  ('images', 'labels', 'message'),
  [
    (IMAGES / 255, LABELS, r'dots: images of float64; must be uint8 .* \(255 \* images\)'),
    (IMAGES.astype(np.int32) + 300, LABELS, 'dots: images of int32; must be uint8'),
    (IMAGES[..., 0], LABELS, r'of shape \(8, 4, 4\); must be \[N, H, W, C\]'),
    (np.zeros((8, 4, 4, 2), np.uint8), LABELS, 'with C of 1, 3, 4'),
    (IMAGES, LABELS[:5], r'labels of int64 \(5,\) for 8 images'),
    (IMAGES, LABELS.astype(float), r'labels of float64'),
    (IMAGES, np.array([0, 1, 7, 0, 7, 1, 0, 1]), r'label 7 of image 2 and 2 in all .* from 0 to 1'),
    (IMAGES, LABELS - 1, r'label -1 of image 0'),
    (IMAGES > 0, LABELS, 'images of bool'),
    (np.where(IMAGES, 1, np.nan), LABELS, 'images of float64'),
    (IMAGES[:0], LABELS[:0], r'of shape \(0, 4, 4, 1\); .* and not empty'),
    (IMAGES[:, :0], LABELS, r'of shape \(8, 0, 4, 1\); .* and not empty'),
    (IMAGES, LABELS[:, None], r'labels of int64 \(8, 1\)'),
    (IMAGES, LABELS.astype(bool), 'labels of bool'),
    (IMAGES, LABELS.astype(str), 'labels of <U21'),
    (IMAGES.tolist(), LABELS, 'images of int64'),
    ('images', LABELS, 'images of <U6'),
  ],
)
def test_what_does_not_fit_is_refused(images, labels, message):
  with pytest.raises(ValueError, match=message):
    from_arrays('dots', images, labels, ('a', 'b'))


@pytest.mark.parametrize('classes', [(), ('a', 'a'), ('a', 'b', 'a')])
def test_classes_have_different_names(classes):
  with pytest.raises(ValueError, match=r'dots: classes=.*: must be different names'):
    from_arrays('dots', IMAGES, LABELS, classes)


def test_lists_of_labels_will_do():
  assert from_arrays('dots', IMAGES, LABELS.tolist(), ('a', 'b')).size == 8


# --- a set of one's own, whose records are read when they are wanted


def decode_first(item, label=0, channels=1, read=None):
  own = records.Records('own', ('a', 'b'), channels, 1, read or (lambda rows: [(item, label)]))
  images, labels = np.zeros((1, 4, 4, channels), np.uint8), np.zeros(1, int)
  records.decode_rows(own, [0], [], [None], images, labels, Remarks('own'))
  return images, labels


def test_what_a_function_of_ones_own_reads():
  images, labels = decode_first(np.full((4, 4, 1), 7, np.uint8), 1)
  assert (images == 7).all() and labels.tolist() == [1]


@pytest.mark.parametrize(
  ('item', 'label', 'message'),
  [
    (np.full((4, 4, 1), 0.5), 0, r'an array of float64 \(4, 4, 1\); must be uint8 \[H, W, 1\]'),
    (np.zeros((4, 4), np.uint8), 0, r'an array of uint8 \(4, 4\)'),
    (np.zeros((4, 4, 3), np.uint8), 0, r'\(4, 4, 3\); must be uint8 \[H, W, 1\]'),
    (IMAGES[0], 2, 'label 2 is no class from 0 to 1'),
    (IMAGES[0], -1, 'label -1 is no class'),
    (IMAGES[0], 0.5, 'label 0.5 is no class'),
    (IMAGES[0], np.nan, 'label nan is no class'),
    (IMAGES[0], 'a', 'label a is no class'),
    (IMAGES[0], None, 'label None is no class'),
    ('image.png', 0, 'bytes-like object is required'),
  ],
)
def test_what_it_reads_wrongly_is_told_by_record(item, label, message):
  with pytest.raises(ValueError, match=f'^own, record 0: .*{message}'):
    decode_first(item, label)


def test_too_few_records_are_told():
  with pytest.raises(ValueError, match='own: 0 records are read where 1 are asked'):
    decode_first(None, read=lambda rows: [])
