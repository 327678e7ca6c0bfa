"""Values of games that policies play: who moves when, which position is learnt, and the run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.selfplay import SelfPlayData
from mcts import symmetry
from mcts.alphago import episodes
from mcts.go import recorded
from tests.mcts.go.go_players import GAME, SIZE, first_point, last_point, points
from tests.mcts.go.go_referee import Referee
from train import mesh as mesh_lib
from train import verbs
from train.errors import UserError
from train.tasks.alphago.network import GoNetwork
from train.tasks.alphago.value_selfplay import GameSettings, GoValueSelfPlay, Rounds

pytestmark = pytest.mark.usefixtures('one_device')

POLICY = {'name': 'alphago_policy', 'layers': 2, 'filters': 8}
VALUE = {'name': 'alphago_value', 'layers': 2, 'filters': 8}
GAMES = {'per_round': 16, 'min_games': 64, 'window': 96, 'round_every': 2, 'test_games': 128}
COUNT = 64


@functools.cache
def play_games(turn, begin=first_point):
  """Ends of games, and the records of their positions."""

  @jax.jit
  def play(turn, keys):
    ends, _ = episodes.play_with_random_move(GAME, begin, last_point, turn, keys)
    return ends, episodes.positions(GAME, ends, turn)

  return jax.device_get(play(jnp.int32(turn), jax.random.split(jax.random.key(0), COUNT)))


@pytest.mark.parametrize('turn', [1, 4])
def test_one_moves_before_the_random_move_and_the_other_after_it(turn):
  ends, positions = play_games(turn)
  random_moves = set()
  for game in range(COUNT):
    referee, moves = Referee(SIZE), positions['points'][game].tolist()
    for number in range(1, int(ends.num_entries[game]) + 1):
      move, there = moves[number - 1], points(referee)
      if number == turn:
        random_moves.add(move)
        assert move in there
      else:
        choose = min if number < turn else max
        assert move == choose(there, default=SIZE**2)
      referee.play(move)
    assert referee.over
    black = np.sign(np.sum(referee.ownership()) - 0.5)
    assert positions['result'][game] == (-black if turn % 2 else black)
    assert positions['mask'][game] == 1
  assert random_moves == set(range(turn - 1, SIZE**2))


def test_a_position_is_that_after_the_random_move():
  _, positions = play_games(4)
  states = jax.jit(functools.partial(recorded.states, GAME))(positions)
  for game in range(0, COUNT, 9):
    referee = Referee(SIZE)
    for move in positions['points'][game, :4].tolist():
      referee.play(move)
    legal = GAME.legal(jax.tree.map(lambda x, game=game: x[game], states))
    assert legal.tolist() == referee.mask()


def test_games_that_are_over_by_then_have_no_position():
  ends, positions = play_games(4, begin=lambda states, keys: jnp.full(len(keys), SIZE**2))
  assert (ends.num_entries == 2).all() and not positions['mask'].any()
  assert play_games(3, begin=first_point)[1]['mask'].all()


# -------- the run --------


def mesh(devices=1):
  return mesh_lib.make_mesh(devices=jax.devices()[:devices])


def task_of(batch_size=16, **options):
  """A task whose policies were never trained, nor written."""
  games = GameSettings(**{**GAMES, **options})
  task = GoValueSelfPlay(VALUE, SelfPlayData(batch_size), size=SIZE, games=games)
  network = GoNetwork(POLICY, SIZE, ('planes',))
  task.policies = [network] * 2
  task.policy_variables = tuple(mesh_lib.unbox(network.init(jax.random.key(i))) for i in range(2))
  return task


@pytest.fixture(scope='module')
def games():
  """The source of records, before anything is seen of them."""
  return task_of(batch_size=512).source('train', mesh(8), 0).source


@pytest.fixture(scope='module')
def player(tmp_path_factory):
  """The workdir of a policy that plays."""
  folder = str(tmp_path_factory.mktemp('player'))
  config = {
    'task': {'name': 'go_reinforce', 'size': SIZE, 'games': 16, 'match_games': 16},
    'model': POLICY,
    'data': {'name': 'selfplay', 'batch_size': 16},
    'optimizer': {'name': 'adam', 'learning_rate': 0.01},
    'train': {'steps': 1, 'best': 'random/share', 'best_mode': 'max'},
  }
  verbs.train(verbs.complete_config(config), folder)
  return folder


def config(player, steps=4, **games):
  task = {'sl_policy': player, 'rl_policy': player, 'size': SIZE, 'games': {**GAMES, **games}}
  return verbs.complete_config({
    'task': {'name': 'go_value_selfplay', **task},
    'model': VALUE,
    'data': {'name': 'selfplay', 'batch_size': 64},
    'optimizer': {'name': 'adam', 'learning_rate': 0.01},
    'train': {'steps': steps, 'log_every': 2, 'best': 'test/loss'},
    'mesh': {'data': 8},
  })  # fmt: skip


@pytest.mark.long
def test_a_ring_has_the_newest_rounds_and_each_device_its_part(games):
  carry = games.init(jax.random.key(3))
  for step in range(9):
    before = int(carry['rounds'])
    carry, _ = games.next(carry, step, {})
    if step:
      assert int(carry['rounds']) - before == (step % 2 == 0)
  played = int(carry['rounds'])
  assert played >= 8
  ring = np.asarray(carry['ring']['points'])
  assert ring.shape[:2] == (16, 6)
  for number in range(played - 6, played):
    expected = np.asarray(games.play(carry['key'], number)['points'])
    np.testing.assert_array_equal(ring[:, number % 6], expected)


@pytest.mark.long
def test_a_ring_goes_on_on_other_devices_where_its_oldest_round_is(games):
  carry, key = games.init(jax.random.key(3)), jax.random.key(3)
  for step in range(0, 6, 2):
    carry, _ = games.next(carry, step, {})
  played = int(carry['rounds'])
  assert played >= 6
  fewer = task_of(batch_size=512).source('train', mesh(2), 0).source
  new = jax.device_put((carry['ring'], games.play(key, played)), mesh_lib.batch_sharding(mesh(2)))
  ring = np.asarray(fewer._put(*new, played % 6)['points'])
  for number in range(played - 5, played + 1):
    expected = np.asarray(games.play(key, number)['points'])
    np.testing.assert_array_equal(ring[:, number % 6], expected)


@pytest.mark.long
def test_a_round_is_the_same_on_any_number_of_devices(games):
  alone = Rounds(task_of(), mesh())
  for number in range(2):
    records = [play(jax.random.key(5), number) for play in (alone, games.play)]
    for name, x in records[0].items():
      np.testing.assert_array_equal(x, records[1][name])


@pytest.mark.long
def test_what_is_drawn_are_positions_of_the_ring_turned_in_all_ways(games):
  carry, batch = games.next(games.init(jax.random.key(3)), 0, {})
  ring, batch = jax.device_get((carry['ring'], batch))
  ring = {name: x.reshape(-1, *x.shape[2:]) for name, x in ring.items()}
  board = np.arange(SIZE**2).reshape(SIZE, SIZE)
  turns = [np.asarray(symmetry.board(board, k)).ravel() for k in range(8)]
  records = {}
  for row in np.flatnonzero(ring['mask']):
    played = ring['points'][row, : ring['count'][row]]
    for way, turn in enumerate(turns):
      moves = np.append(np.argsort(turn), SIZE**2)[played]
      records.setdefault(tuple(moves.tolist()), []).append((row, way, ring['result'][row]))
  seen, ways = set(), set()
  for row in range(512):
    key = tuple(batch['points'][row, : batch['count'][row]].tolist())
    game, way, results = zip(*records[key], strict=True)
    assert batch['result'][row] in results
    seen.update(game)
    ways.update(way if len(way) == 1 else ())
  assert seen == set(np.flatnonzero(ring['mask']).tolist())
  assert ways == set(range(symmetry.COUNT))
  assert (batch['mask'] == 1).all()


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_where_an_undisturbed_one_does(player, tmp_path):
  whole, part = str(tmp_path / 'whole'), str(tmp_path / 'part')
  verbs.train(config(player), whole)
  verbs.train(config(player, steps=3), part)
  text = (tmp_path / 'part' / 'config.json').read_text()
  (tmp_path / 'part' / 'config.json').write_text(text.replace('"steps": 3', '"steps": 4'))
  verbs.train(config(player), part)
  a, b = (verbs.load_run(x).variables for x in (whole, part))
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_a_value_of_played_games_is_learnt(player, tmp_path):
  verbs.train(config(player, steps=60, round_every=10, min_games=512, window=512), str(tmp_path))
  found = verbs.evaluate([str(tmp_path)])
  assert found['metrics']['test/loss'] < 0.8  # 1 for knowing nothing
  assert found['metrics']['test/winner'] > 0.7
  assert found['games'] == 128


def test_what_does_not_fit_is_refused():
  with pytest.raises(UserError, match=r'task\.games\.per_round=0: must be at least 1'):
    task_of(per_round=0)
  with pytest.raises(
    UserError, match=r'task\.games\.window=100: must be a multiple of task\.games\.per_round=16'
  ):
    task_of(window=100)
  with pytest.raises(UserError, match=r'task\.games\.window=32: must be at least 64'):
    task_of(window=32)
  with pytest.raises(UserError, match=r"task\.rl_policy='': give the workdir"):
    GoValueSelfPlay(VALUE, SelfPlayData(), size=SIZE, sl_policy='a').source('train', mesh(), 0)
  with pytest.raises(UserError, match=r'task\.games\.per_round=20: must be a multiple of 8'):
    task_of(per_round=20, window=80, test_games=20).source('train', mesh(8), 0)
