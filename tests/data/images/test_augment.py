"""Augmentations inside the step, against SciPy, against loops, and against their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from data.images import augment

ALL = (
  'affine(rotation=10.0, scale=0.1, shear=0.1, shift=2.0)|random_crop(padding=4)|flip()|'
  'cutout(size=8)|color_pca()|random_crop_to(size=24)'
)


def make_keys(n: int, seed: int = 0):
  return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(n))


def make_batch(n: int = 8, shape=(28, 28, 3), num_classes: int = 10):
  rng = np.random.default_rng(0)
  images = rng.random((n, *shape), np.float32)
  targets = np.eye(num_classes, dtype=np.float32)[rng.integers(num_classes, size=n)]
  return make_keys(n), images, targets


def run(spec: str, keys, images, targets):
  return jax.tree.map(np.asarray, jax.jit(augment.parse(spec))(keys, images, targets))


def test_empty_spec_changes_nothing():
  keys, images, targets = make_batch()
  out, out_targets = run('', keys, images, targets)
  np.testing.assert_array_equal(out, images)
  np.testing.assert_array_equal(out_targets, targets)


def test_flip_mirrors_about_half_of_the_images():
  _, images, targets = make_batch(200, (2, 3, 1))
  out, _ = run('flip()', make_keys(200), images, targets)
  flipped = [bool((o == x[:, ::-1]).all()) for o, x in zip(out, images, strict=True)]
  kept = [bool((o == x).all()) for o, x in zip(out, images, strict=True)]
  assert all(f != k for f, k in zip(flipped, kept, strict=True))
  assert 70 < sum(flipped) < 130


def test_random_crop_gives_windows_of_the_padded_image():
  keys, images, targets = make_batch(32, (8, 8, 2))
  out, _ = run('random_crop(padding=2)', keys, images, targets)
  padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
  places = set()
  for crop, image in zip(out, padded, strict=True):
    found = [
      (y, x) for y in range(5) for x in range(5) if (image[y : y + 8, x : x + 8] == crop).all()
    ]
    assert len(found) == 1
    places.update(found)
  assert {y for y, _ in places} == {x for _, x in places} == set(range(5))


def test_cutout_removes_a_square_that_may_hang_over_the_edge():
  keys, images, targets = make_batch(64, (16, 16, 3))
  out, _ = run('cutout(size=6, fill=0.5)', keys, images + 1, targets)
  hole = (out == 0.5).all(-1)
  np.testing.assert_array_equal(out[~hole], (images + 1)[~hole])
  areas = hole.sum((1, 2))
  assert areas.max() == 36
  assert 9 <= areas.min() < 36  # the centre is a pixel of the image, so a quarter always remains


@settings(max_examples=20)
@given(
  rotation=st.floats(0, 180), scale=st.floats(0, 0.5), shear=st.floats(0, 1), shift=st.floats(0, 9)
)
def test_resampling_agrees_with_scipy(rotation, scale, shear, shift):
  """The same matrix through scipy.ndimage.affine_transform, bilinear with zeros outside."""
  rng = np.random.default_rng(int(1e6 * (rotation + scale + shear + shift)))
  images = rng.random((2, 9, 12, 2), np.float32)
  angle = np.deg2rad(rotation)
  turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
  matrix = turn @ np.diag([1 + scale, 1 - scale]) @ np.array([[1, 0], [shear, 1]])
  middle = np.array([4.0, 5.5])
  offset = middle - matrix @ middle + shift
  resample = jax.jit(augment._resample)
  out = resample(images, np.float32([matrix, matrix]), np.full((2, 2), shift, np.float32))
  padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))  # scipy blends no border otherwise
  wide_offset = offset + 2 - matrix @ np.array([2.0, 2.0])
  for b, c in np.ndindex(2, 2):
    wide = scipy.ndimage.affine_transform(
      padded[b, ..., c], matrix, wide_offset, output_shape=(13, 16), order=1
    )
    np.testing.assert_allclose(out[b, ..., c], wide[2:-2, 2:-2], atol=1e-4)


def test_affine_of_nothing_is_the_identity_and_shift_moves():
  keys, images, targets = make_batch(4, (9, 9, 1))
  np.testing.assert_allclose(run('affine()', keys, images, targets)[0], images, atol=1e-6)
  one = np.zeros((4, 9, 9, 1), np.float32)
  one[:, 4, 4] = 1
  out, _ = run('affine(shift=2.0)', keys, one, targets)
  np.testing.assert_allclose(out.sum((1, 2, 3)), 1, atol=1e-5)  # bilinear keeps the mass
  distance = np.abs(np.einsum('byxc,yxd->bd', out, np.moveaxis(np.mgrid[-4:5, -4:5], 0, -1)))
  assert (distance <= 2 + 1e-5).all() and (distance > 0.1).any()


def test_mixup_mixes_images_and_targets_alike():
  keys, images, targets = make_batch(8)
  out, out_targets = run('mixup(alpha=0.4)', keys, images, targets)
  other, other_targets = np.roll(images, 4, 0), np.roll(targets, 4, 0)
  for i in range(8):
    weight = ((out[i] - other[i]) / (images[i] - other[i])).mean()
    assert -1e-4 < weight < 1 + 1e-4
    np.testing.assert_allclose(out[i], weight * images[i] + (1 - weight) * other[i], atol=1e-4)
    mixed = weight * targets[i] + (1 - weight) * other_targets[i]
    np.testing.assert_allclose(out_targets[i], mixed, atol=1e-3)
  np.testing.assert_allclose(out_targets.sum(-1), 1, atol=1e-6)


def test_color_pca_adds_one_color_to_an_image_with_the_paper_s_covariance():
  """Krizhevsky et al. 2012, 4.1: a sum of p_i a_i l_i has covariance P diag((std l)^2) P^T."""
  _, images, targets = make_batch(4000, (2, 2, 3))
  out, _ = run('color_pca(std=0.1)', make_keys(4000), images, targets)
  added = out - images
  np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-6)
  vectors = np.array(augment.IMAGENET_EIGENVECTORS)
  values = np.array([0.2175, 0.0188, 0.0045])
  expected = vectors @ np.diag((0.1 * values) ** 2) @ vectors.T
  np.testing.assert_allclose(np.cov(added[:, 0, 0].T), expected, atol=0.1 * expected.max())
  np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)  # as published: 4 digits


def test_pca_of_images_finds_the_axes_of_their_colors():
  rng = np.random.default_rng(0)
  gray = rng.normal(128, 30, (100, 4, 4, 1)) + rng.normal(0, 5, (100, 4, 4, 3))
  values, vectors = augment.pca(gray.clip(0, 255).astype(np.uint8))
  np.testing.assert_allclose(np.abs(np.array(vectors)[:, 0]), 3**-0.5, atol=0.02)
  assert values[0] == pytest.approx((3 * 30**2 + 5**2) / 255**2, rel=0.1)
  keys, images, targets = make_batch(4, (4, 4, 3))
  run(f'color_pca(eigenvalues={values}, eigenvectors={vectors})', keys, images, targets)


def test_ten_crop_is_corners_and_centre_and_mirrors():
  images = np.arange(2 * 6 * 8 * 1, dtype=np.float32).reshape(2, 6, 8, 1)
  crops = np.asarray(augment.ten_crop(images, size=4))
  assert crops.shape == (2, 10, 4, 4, 1)
  for n, (y, x) in enumerate([(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]):
    np.testing.assert_array_equal(crops[:, n], images[:, y : y + 4, x : x + 4])
    np.testing.assert_array_equal(crops[:, 5 + n], images[:, y : y + 4, x : x + 4][:, :, ::-1])
  np.testing.assert_array_equal(augment.center_crop(images, size=4)[:, 0], crops[:, 4])


def test_mirrored_shifts_are_the_image_and_its_neighbours_and_mirrors():
  image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
  views = np.asarray(augment.mirrored_shifts(image))[0, ..., 0]
  np.testing.assert_array_equal(views[0], image[0, ..., 0])
  np.testing.assert_array_equal(views[1], [[0, 0, 1], [0, 0, 1], [3, 3, 4]])
  np.testing.assert_array_equal(views[2], [[4, 5, 5], [7, 8, 8], [7, 8, 8]])
  np.testing.assert_array_equal(views[3:], views[:3, :, ::-1])


@pytest.mark.long
def test_an_example_is_augmented_alike_in_any_batch_and_on_any_devices():
  keys, images, targets = make_batch(16)
  whole, _ = run(ALL, keys, images, targets)
  parts = [
    run(ALL, keys[i : i + 4], images[i : i + 4], targets[i : i + 4])[0] for i in (0, 4, 8, 12)
  ]
  np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  spread = jax.device_put((keys, images, targets), NamedSharding(mesh, PartitionSpec('data')))
  np.testing.assert_allclose(run(ALL, *spread)[0], whole, atol=1e-6)


def test_a_large_batch_is_augmented_as_its_parts():
  """A compiler may treat large arrays differently, and once did so wrongly."""
  keys, images, targets = make_batch(256, (32, 32, 3))
  whole, _ = run(ALL, keys, images, targets)
  part, _ = run(ALL, *(x[-8:] for x in (keys, images, targets)))
  np.testing.assert_allclose(whole[-8:], part, atol=1e-6)


def test_operations_of_one_kind_draw_anew():
  keys, images, targets = make_batch(64, (4, 4, 1))
  once, _ = run('flip()', keys, images, targets)
  twice, _ = run('flip()|flip()', keys, images, targets)
  assert (once != twice).any() and (twice != images).any()


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('blur(size=3)', r"unknown operation 'blur'; choices: affine, color_pca, cutout, flip"),
    ('random_crop(pad=4)', r"random_crop\(\) has no argument 'pad'; choices: padding"),
    ('random_crop()', r'random_crop\(\) needs padding'),
    ('random_crop(4, 4)', r'takes at most 1 arguments'),
    ('random_crop(4, padding=4)', r'given an argument twice'),
    ('random_crop(padding=0)', r'padding=0\): must be at least 1'),
    ('random_crop(padding=1.5)', r'must be of type int'),
    ('mixup(alpha=-1.0)', r'must be at least 0'),
    ("affine(rotation='ten')", r'must be of type float'),
    ('affine(rotation=float(1))', r'plain values'),
    ('flip', r'not of the form name\(...\)'),
    ('flip() flip()', r"not of the form 'name"),
    ("__import__('os').system('true')", r'not of the form name\(...\)'),
  ],
)
def test_mistakes_in_a_spec_are_named(spec, message):
  with pytest.raises(ValueError, match=r'^augment.*' + message):
    augment.parse(spec)


def test_too_large_a_crop_is_refused():
  keys, images, targets = make_batch()
  with pytest.raises(ValueError, match='a crop of 32 from images of 28 x 28'):
    run('random_crop_to(size=32)', keys, images, targets)
