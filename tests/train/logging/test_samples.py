"""What tasks draw in training: the files, the same ones after a resumption, and the report."""

import io
import signal

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from tests.train import toy
from tests.train.report.test_report import Outline, run_folder, text_of
from tests.train.test_loop import metrics, params, same
from train import mesh as mesh_lib
from train.logging import samples
from train.loop import Loop
from train.report import page as page_lib
from train.report.folder import read

pytestmark = pytest.mark.usefixtures('one_device')

STEPS = 6


class Artist(toy.Toy):
  """Draws a number of its key and its weights."""

  def draw(self, variables, key):
    number = float(jax.random.uniform(key)) + float(jax.tree.leaves(variables)[0].sum())
    return {'sample.txt': f'One\n\x1b two {number!r}\n'.encode(), 'dot.png': image(number)}


def image(number):
  buffer = io.BytesIO()
  Image.fromarray(np.full((4, 4), int(1e6 * number) % 256, np.uint8)).save(buffer, 'PNG')
  return buffer.getvalue()


def train(workdir, seed=0, kind=Artist, **task):
  loop = Loop(steps=STEPS, log_every=2, eval_every=2, checkpoint_every=1)
  tx, mesh = optax.sgd(0.1), mesh_lib.make_mesh()
  loop.run(kind(**task), tx, lambda step: 0.1, mesh, str(workdir), seed=seed)


def files(workdir):
  return {path.name: path.read_bytes() for path in (workdir / samples.FOLDER).iterdir()}


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('straight')
  train(workdir)
  return workdir


def test_each_evaluation_leaves_its_files_and_a_line(tmp_path, capfd):
  train(tmp_path)
  names = [f'{step:08}-{name}' for step in (2, 4, 6) for name in ('dot.png', 'sample.txt')]
  drawn = files(tmp_path)
  assert sorted(drawn) == names
  assert len({drawn[name] for name in names if name.endswith('.txt')}) == 3
  log = capfd.readouterr().err
  assert 'step 2  sample.txt: One two ' in log and 'step 4  dot.png: in samples/' in log


def test_a_resumed_run_draws_the_same(straight, tmp_path):
  train(tmp_path, signal=(2, signal.SIGTERM))
  assert len(files(tmp_path)) == 2
  train(tmp_path)
  assert files(tmp_path) == files(straight)


def test_another_seed_draws_something_else(straight, tmp_path):
  train(tmp_path, seed=1)
  assert not set(files(tmp_path).values()) & set(files(straight).values())


def test_drawing_does_not_change_the_run(straight, tmp_path):
  train(tmp_path, kind=toy.Toy)
  assert not (tmp_path / samples.FOLDER).exists()
  assert metrics(tmp_path) == metrics(straight)
  same(params(tmp_path), params(straight))


def test_the_newest_are_found_among_other_files(tmp_path):
  assert samples.newest(str(tmp_path)) == (0, {})
  samples.write(str(tmp_path), 900, {'sample.txt': b'old'})
  samples.write(str(tmp_path), 12_345, {'sample.txt': b'new', 'a-b.png': b''})
  for name in ('texts.jsonl', '99999999-sample.txt.tmp', 'notes-1.txt'):
    (tmp_path / samples.FOLDER / name).write_text('not this')
  assert samples.newest(str(tmp_path)) == (12_345, {'sample.txt': b'new', 'a-b.png': b''})


def test_an_excerpt_is_one_line_of_what_a_terminal_can_show():
  assert samples.excerpt(b'a\n\n  b\x1b[1mc\xff') == 'a b [1mc\ufffd'
  long = samples.excerpt(b'word ' * 100)
  assert len(long) == samples.EXCERPT and long.endswith('...')


# -------- the report --------


def test_the_page_shows_the_newest_text_as_it_is(tmp_path):
  run_folder(tmp_path / 'a')
  text = 'def f(x):\n\treturn x < 1 & "é"\x00\x1b'.encode() + '€'.encode()[:2]
  samples.write(str(tmp_path / 'a'), 100, {'sample.txt': b'the one before'})
  samples.write(str(tmp_path / 'a'), 300, {'sample.txt': text, 'raw.bin': b'unknown'})
  page = page_lib.page([read(str(tmp_path / 'a'))])
  Outline(page)
  assert (
    '<pre class="text">def f(x):\n\treturn x &lt; 1 &amp; &#34;é&#34;\ufffd\ufffd\ufffd</pre>'
    in page
  )
  assert 'Drawn at step 300, while training.' in text_of(page)
  assert 'the one before' not in page and 'unknown' not in page


def test_a_long_text_is_cut_on_the_page(tmp_path):
  run_folder(tmp_path / 'a')
  samples.write(str(tmp_path / 'a'), 300, {'sample.txt': b'x' * 10_000})
  page = page_lib.page([read(str(tmp_path / 'a'))])
  assert 'x' * 4000 + ' …</pre>' in page


def test_the_page_shows_the_newest_picture_and_survives_a_damaged_one(tmp_path):
  run_folder(tmp_path / 'a', evaluated=False)
  pixels = image(0.5)
  samples.write(str(tmp_path / 'a'), 300, {'grid.png': pixels, 'half.png': pixels[:40]})
  page = page_lib.page([read(str(tmp_path / 'a'))])
  Outline(page)
  assert page.count('<img ') == 1 and 'class="drawn small"' in page
  assert 'half.png is damaged and left out.' in text_of(page)


def test_a_run_that_drew_nothing_has_no_such_part(tmp_path):
  run_folder(tmp_path / 'a')
  assert 'while training.' not in page_lib.page([read(str(tmp_path / 'a'))])


def test_earlier_files_are_spread_over_the_steps_before_the_newest(tmp_path):
  for step in range(10, 110, 10):
    samples.write(str(tmp_path), step, {'grid.png': b'%d' % step})
  samples.write(str(tmp_path), 5, {'other.png': b''})
  found = samples.earlier(str(tmp_path), 'grid.png', 3)
  assert found == {10: b'10', 50: b'50', 90: b'90'}
  assert list(samples.earlier(str(tmp_path), 'grid.png', 50)) == list(range(10, 100, 10))
  assert samples.earlier(str(tmp_path), 'none.png', 3) == {}
