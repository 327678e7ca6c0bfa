"""Leela Zero's networks: read, written, and the same function as the format defines."""

import gzip
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from mcts.go import Go
from mcts.go.notation import to_vertex
from models.weights import leelaz
from tests.models.weights import leela_networks

LEELAZ = shutil.which('leelaz') or shutil.which('/usr/games/leelaz')
needs_leelaz = pytest.mark.skipif(LEELAZ is None, reason='apt-get install leela-zero')


def random_games(size: int, count: int, moves: int, seed: int = 0):
  """Returns the moves `[count, moves]` of random games, and the states after each of them."""
  game = Go(size)

  def play(state, key):
    move = jax.random.categorical(key, jnp.where(game.rollout_legal(state), 0.0, -jnp.inf))
    state = game.step(state, move)
    return state, (move, state)

  keys = jax.random.split(jax.random.key(seed), (count, moves))
  run = jax.vmap(lambda keys: jax.lax.scan(play, game.init(), keys)[1])
  played, states = jax.jit(run)(keys)
  return game, np.asarray(played), states


def outputs(model, variables, planes):
  logits, values, _ = jax.jit(model.apply)(variables, planes)
  return np.asarray(jax.nn.softmax(logits)), np.asarray(values)


def zeros_like(model, planes: int):
  """Returns variables of zeros for boards of 5 x 5."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 5, 5, planes)))
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def random_planes(history: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Returns boards `[6, K, 5, 5]` (1 black, -1 white) and their planes, `Go.observe`'s.

  In every other position black is to move.
  """
  boards = np.random.default_rng(seed).integers(-1, 2, (6, history, 5, 5))
  black = (np.arange(6) % 2).reshape(6, 1, 1, 1)
  own = boards * (2 * black - 1)
  planes = np.stack([own == 1, own == -1], 2).reshape(6, 2 * history, 5, 5)
  planes = np.concatenate([planes, np.broadcast_to(black, (6, 1, 5, 5))], 1)
  return boards, planes.transpose(0, 2, 3, 1).astype(np.float32)


@pytest.mark.parametrize('version', [1, 2])
def test_the_function_is_that_of_the_format(tmp_path, version):
  path, arrays = leela_networks.written(tmp_path / 'net.txt', size=5, version=version, blocks=2)
  model, size, variables = leelaz.from_leelaz(path)
  boards, planes = random_planes()
  policy, values = outputs(model, variables, planes)
  assert size == 5
  for i in range(6):
    black = i % 2 == 1
    wanted, value = leela_networks.forward(arrays, leela_networks.planes_of(boards[i], black))
    theirs = [row * 5 + column for row in range(4, -1, -1) for column in range(5)] + [25]
    np.testing.assert_allclose(policy[i], wanted[theirs], atol=1e-5)
    value = -value if version == 2 and not black else value
    np.testing.assert_allclose(values[i], value, atol=1e-5)


@pytest.mark.parametrize('name', ['net.txt', 'net.gz'])
def test_what_is_read_is_written_again(tmp_path, name):
  path, arrays = leela_networks.written(tmp_path / name, size=5, version=2)
  model, size, variables = leelaz.from_leelaz(path)
  version, again = leelaz.to_leelaz(model, size, variables)
  assert version == 2 and leelaz.recognises(path)
  for ours, theirs in zip(again, arrays, strict=True):
    np.testing.assert_allclose(ours.ravel(), theirs, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize('history', [1, 8])
def test_a_network_of_ours_is_the_same_when_it_comes_back(tmp_path, history):
  """With scales of both signs, which the format does not have, and fewer boards than 8."""
  _, planes = random_planes()
  seen = np.concatenate([planes[..., : 2 * history], planes[..., 16:]], -1)
  model = models.build('policy_value', num_actions=26, blocks=1, channels=4)
  variables = model.init(jax.random.key(0), seen)
  rng = np.random.default_rng(1)
  variables = jax.tree.map(lambda x: x + rng.uniform(0, 0.3, x.shape), variables)
  variables['params']['stem_norm']['scale'] = jnp.array([1.0, -2.0, 0.0, 0.5])
  version, arrays = leelaz.to_leelaz(model, 5, variables)
  leelaz.write(tmp_path / 'net.gz', arrays, version)
  back, _, read = leelaz.from_leelaz(tmp_path / 'net.gz')
  before, after = outputs(model, variables, seen), outputs(back, read, planes)
  for ours, theirs in zip(before, after, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
@needs_leelaz
@pytest.mark.parametrize('version', [1, 2])
def test_leelaz_says_the_same_on_100_positions(tmp_path, version):
  sizes = {'blocks': 2, 'channels': 8}
  path, _ = leela_networks.written(tmp_path / 'net.gz', seed=3, version=version, **sizes)
  model, _, variables = leelaz.from_leelaz(path)
  game, moves, states = random_games(19, 2, 50)
  planes = jax.vmap(jax.vmap(game.observe))(states).reshape(100, 19, 19, 17)
  policy, values = outputs(model, variables, planes)
  heatmaps, winrates = ask_leelaz(path, moves)
  empty = np.pad(~np.asarray(planes[..., 0] | planes[..., 1]).reshape(100, 361), ((0, 0), (0, 1)))
  empty[:, -1] = True
  assert policy.max() > 0.05  # not flat, where any order of points would do
  # It shows thousandths, rounded down, of sums that end in other digits; 0 where a stone is.
  np.testing.assert_allclose(policy * empty, heatmaps / 1000, atol=1e-3 + 1e-5)
  np.testing.assert_allclose((1 + values) / 2, winrates, atol=1e-4)


def ask_leelaz(path, games):
  """Returns leelaz's probabilities in thousandths `[P, 362]` and chances to win `[P]`."""
  commands = []
  for moves in games:
    commands.append('clear_board')
    for i, move in enumerate(moves):
      commands += [f'play {"bw"[i % 2]} {to_vertex(int(move), 19)}', 'heatmap']
  found = subprocess.run(
    [LEELAZ, '--gtp', '--cpu-only', '--noponder', '-t1', '-w', str(path)],
    input='\n'.join([*commands, 'quit', '']),
    capture_output=True,
    text=True,
    timeout=600,
    check=True,
  ).stderr
  rows = r'((?: *\d+ (?: *\d+ ){18}\n){19})'
  parts = re.findall(rf'{rows}pass: (\d+)\nwinrate: ([\d.]+)', found)
  heatmaps = [[*map(int, board.split()), int(skip)] for board, skip, _ in parts]
  return np.array(heatmaps), np.array([float(winrate) for *_, winrate in parts])


# -------- files that are none --------


@pytest.fixture
def lines(tmp_path):
  path, _ = leela_networks.written(tmp_path / 'whole.txt', size=3)
  return path.read_text().splitlines()


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (lambda x: ['3', *x[1:]], "line 1: b'3'; a network of Leela Zero begins with 1 or 2"),
    (
      lambda x: x[:-2],
      r'cut short, 24 lines of numbers; a network has 4, 8 for each block, and 14',
    ),
    (lambda x: x[:5] + [x[5][:-40]] + x[6:], r'line 6: holds \d+ numbers; the kernel of conv'),
    (lambda x: [*x[:8], '1 2 spam 4', *x[9:]], r'line 9: not a line of numbers \(.*spam'),
    (lambda x: [*x[:3], '1 2 nan 4', *x[4:]], 'line 4: holds a number that is not finite'),
    (lambda x: [*x[:4], '1 2 -3 4', *x[5:]], 'line 5: the variances of .* should not be below 0'),
    (lambda x: [*x[:3], '1 2 1e99 4', *x[4:]], 'line 4: holds a number that is not finite'),
    (lambda x: [x[0], ' '.join(x[1].split()[: 17 * 36]), *x[2:]], 'a network of 17 planes;'),
    (lambda x: [*x[:-9], x[-9] + ' 0', *x[-8:]], r'line 19: 11 numbers; .* a square board'),
    (lambda x: [], "line 1: b''"),
  ],
)
def test_a_file_that_is_no_network_is_refused_in_one_line(tmp_path, lines, change, said):
  (path := tmp_path / 'net.txt').write_text('\n'.join(change(lines)) + '\n')
  with pytest.raises(ValueError, match=said) as error:
    leelaz.from_leelaz(path)
  assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_a_gzipped_file_that_was_cut_is_refused(tmp_path, lines):
  path = tmp_path / 'net.gz'
  path.write_bytes(gzip.compress('\n'.join(lines).encode())[:-20])
  with pytest.raises(ValueError, match='cut short or damaged'):
    leelaz.from_leelaz(path)
  with pytest.raises(ValueError, match='no such file'):
    leelaz.from_leelaz(tmp_path / 'nowhere')
  assert not leelaz.recognises(tmp_path / 'nowhere') and not leelaz.recognises(tmp_path)


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'policy_channels': 4}, r'model.policy_channels=4: leelaz knows 2 alone'),
    ({'value_width': 64}, r'model.value_width=64: leelaz knows 256 alone'),
  ],
)
def test_what_leelaz_does_not_know_is_not_written(fields, said):
  model = models.build('policy_value', num_actions=26, blocks=1, channels=4, **fields)
  with pytest.raises(ValueError, match=said):
    leelaz.to_leelaz(model, 5, zeros_like(model, 17))


def test_more_boards_than_leelaz_shows_are_refused():
  model = models.build('policy_value', num_actions=26, blocks=1, channels=4)
  variables = zeros_like(model, 21)
  with pytest.raises(ValueError, match='sees 10 boards: Leela Zero shows 8'):
    leelaz.to_leelaz(model, 5, variables)
