"""Operations in configs: what is no call, no plain value or out of range is told in one line."""

import pytest

from data import spec
from data.images import augment, decode


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('-' * 900 + '1', 'is not of the form name'),
    ('-' * 100000 + '1', 'not of the form'),
    ('resize(' + '-' * 900 + '1)', 'arguments are plain values'),
    ('(' * 100000, 'not of the form'),
    ('|'.join(['resize(8)'] * 3000), 'not of the form'),
    ('resize(\0)', 'not of the form'),
    ('resize({[]: 1})', 'arguments are plain values'),
    ('resize(1+2)', 'arguments are plain values'),
    ('resize(*[3])', 'arguments are plain values'),
    ('resize(8, size=9)', 'is given an argument twice'),
    ('resize(10**9)', 'arguments are plain values'),
    ('resize(99999999999999999999)', r'must be at most 2147483648'),
    ('resize(True)', 'must be of type int'),
    ('inception_crop(8, area=(0, 1))', 'area=.* must be .low, high., 0 < low <= high <= 1'),
    ('inception_crop(8, area=(0.5, 2))', 'area='),
    ('inception_crop(8, ratio=(2, 1))', 'ratio='),
    ('inception_crop(8, ratio=(1,))', 'ratio='),
    ('inception_crop(8, area=("a", "b"))', 'must be of finite numbers'),
    ('inception_crop(8, ratio=(1, 1e999))', 'must be of finite numbers'),
    ('resize("' + 'x' * 900 + '")', 'must be of type int'),
  ],
)
def test_operations_on_the_host(text, message):
  with pytest.raises(ValueError, match=f'^data.decode_train.*{message}') as error:
    decode.parse(text, 'data.decode_train')
  assert len(str(error.value)) < 400


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('flip(1e999)', 'must be of finite numbers'),
    ('flip(2)', 'probability=2: must be at most 1'),
    ('flip(-0.5)', 'arguments|at least 0'),
    ('random_crop_to(64)', 'a crop of 64 from images of 28 x 28: must not be larger'),
    ('color_pca()', '1 channels, .* must be RGB'),
    ('color_pca(eigenvalues=(1, 2))', r'eigenvalues \(2,\)'),
  ],
)
def test_operations_on_the_devices_must_fit_the_images(text, message):
  with pytest.raises(ValueError, match=f'^task.augment.*({message})'):
    augment.parse(text, 'task.augment', (28, 28, 1))


@pytest.mark.parametrize(
  'text', ['', 'heun(1)', 'heun(churn=1, churn=2)', 'heun(**{})', 'a.b', '1', '-' * 10**5 + '1']
)
def test_sections_that_are_none(text):
  with pytest.raises(ValueError, match=r'^sampler=.*write NAME or NAME.key=value.'):
    spec.section(text, 'sampler')


def test_a_section():
  expected = {'name': 'heun', 'churn': 10, 'kind': 'fast'}
  assert spec.section('heun(churn=10, kind=fast)', 'sampler') == expected
  assert spec.section('heun', 'sampler') == {'name': 'heun'}
