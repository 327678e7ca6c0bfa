"""Recorded games of Go: the replay in NumPy, positions without a replay, splits and batches."""

import gzip
import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data.go import replay as replay_lib
from data.go.source import GoGames
from mcts import symmetry
from mcts.go import Go, recorded
from mcts.go.state import stones_of
from tests.mcts.go.go_play import played, random_game

NEVER = replay_lib.NEVER


def replay(size, *games, setup=(), first=0):
  """Plays games of points, each (row, column) or 'pass'; `setup` are black's stones in all."""
  rows = [[size * size if x == 'pass' else x[0] * size + x[1] for x in (*setup, *g)] for g in games]
  points = np.full((len(rows), max(map(len, rows))), NEVER, np.uint16)
  for row, game in zip(points, rows, strict=True):
    row[: len(game)] = game
  start, first = (np.full(len(rows), x, np.int32) for x in (len(setup), first))
  return replay_lib.play(replay_lib.Games(points, start, start, first), size)


def game_of(pairs):
  """Points of a game from a picture's letters in turn: a is played first."""
  rows = [line.split() for line in pairs.strip().splitlines()]
  where = {x: (r, c) for r, row in enumerate(rows) for c, x in enumerate(row) if x != '.'}
  return [where[x] for x in sorted(where)]


# -------- the replay --------


def test_a_stone_is_gone_when_its_last_liberty_is_taken():
  game = game_of("""
    b a .
    c d .
    . . .
  """)  # the corner stone b is taken by c, which is black's second
  found = replay(3, game)
  assert found.gone.tolist() == [[0, 3, 0, 0]]
  assert found.illegal.tolist() == [-1]


def test_two_chains_are_taken_by_one_move_and_one_is_not_taken_twice():
  game = game_of("""
    g b a . .
    d c . . .
    e . . . .
    . . . . .
    . . . . f
  """)
  assert replay(5, game).gone[0].tolist() == [0, 7, 0, 7, 0, 0, 0]


def test_a_ko_may_not_be_retaken_at_once_but_after_an_exchange():
  #   . b w .      black takes at the point between, white takes back
  ko = [(0, 1), (0, 2), (1, 0), (1, 3), (2, 1), (2, 2), (1, 2), (1, 1)]
  assert replay(4, ko).illegal.tolist() == [-1]
  again = replay(4, [*ko, (1, 2)], [*ko, (3, 3), (3, 0), (1, 2)])
  assert again.illegal.tolist() == [8, -1]
  assert again.why == {0: 'the board repeats an earlier one'}


def test_illegal_games_are_named_with_the_move():
  suicide = [(0, 1), (3, 3), (1, 0), (0, 0)]
  found = replay(4, [(0, 0), (0, 0)], suicide, [(0, 0), 'pass', 'pass'])
  assert found.illegal.tolist() == [1, 3, -1]
  assert found.why == {0: 'the point is occupied', 1: 'suicide'}


def test_stones_set_up_come_first_and_are_captured_like_others():
  found = replay(3, [(0, 1), (2, 2), (1, 0)], setup=[(0, 0), (2, 0)], first=1)
  assert found.gone.tolist() == [[5, 0, 0, 0, 0]]


@pytest.mark.long
@pytest.mark.parametrize('size', [3, 5])
def test_the_replay_says_what_the_rules_say_of_random_games(size):
  """Boards of 3 x 3 are full of kos and captures of many chains at once."""
  turns = 2 * size * size
  states, _, _ = played(size, games=24, seed=3)
  last = jax.tree.map(lambda x: jnp.asarray(x[:, turns]), states)
  rules = Go(size).rules
  _, points, gone = jax.vmap(lambda state: stones_of(rules, state))(last)
  there = np.arange(turns)[None] < np.asarray(last.count)[:, None]
  points = np.where(there, np.asarray(points), NEVER).astype(np.uint16)
  zeros = np.zeros(len(points), np.int32)
  found = replay_lib.play(replay_lib.Games(points, zeros, zeros, zeros), size)
  assert (found.illegal == -1).all()
  np.testing.assert_array_equal(found.gone, np.asarray(gone))
  assert (np.asarray(gone) > 0).sum() > 24  # there were captures to be found


# -------- states without a replay --------


def test_a_state_made_of_a_record_is_the_state_that_a_replay_leads_to():
  size, turns = 5, 50
  game = Go(size)
  keys = jax.random.split(jax.random.key(5), 4)
  states, _ = jax.jit(jax.vmap(lambda key: random_game(game, turns, key)))(keys)
  last = jax.tree.map(lambda x: jnp.asarray(x[:, turns]), states)
  _, points, gone = jax.jit(jax.vmap(lambda state: stones_of(game.rules, state)))(last)
  zero = jnp.zeros(4, jnp.int32)
  record = {'points': points, 'gone': gone, 'start': zero, 'blacks': zero, 'first': zero}
  make = jax.jit(lambda count: recorded.states(game, {**record, 'count': count}))
  legal = jax.jit(jax.vmap(game.legal))
  for count in range(0, turns, 3):
    then = jax.tree.map(lambda x, count=count: jnp.asarray(x[:, count]), states)
    made = make(jnp.minimum(count, then.count.astype(jnp.int32)))
    for name in set(then._fields) - {'chains'}:  # chains may have other names
      np.testing.assert_array_equal(getattr(made, name), getattr(then, name), err_msg=name)
    np.testing.assert_array_equal(jnp.sign(made.chains), jnp.sign(then.chains))
    np.testing.assert_array_equal(legal(made), legal(then))  # superko included


@pytest.mark.long
def test_a_state_after_stones_were_set_up():
  game = Go(3)
  points = np.zeros(18, np.int32)
  points[:5] = [0, 6, 1, 8, 3]  # black 0 and 6, then white 1, black 8, white 3
  gone = np.zeros(18, np.int32)
  gone[0] = 5
  two = jnp.int32(2)
  made = recorded.state(
    game, jnp.asarray(points), jnp.asarray(gone), jnp.int32(5), two, two, jnp.int32(1)
  )
  board = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 0]])
  moves = jnp.array([1, 8, 3])
  replayed, legal = game.replay(game.from_position(board, to_play=1), moves)
  assert legal.all()
  np.testing.assert_array_equal(game.board(made), game.board(replayed))
  np.testing.assert_array_equal(made.record, replayed.record)
  assert game.to_play(made) == game.to_play(replayed) == 0


# -------- files --------


def line(moves, size=5, result='B+R', extra=''):
  """SGF of points (row, column) or 'pass'."""
  text = [f'(;GM[1]FF[4]SZ[{size}]KM[6.5]RE[{result}]{extra}']
  for i, x in enumerate(moves):
    text.append(f';{"BW"[i % 2]}[{"" if x == "pass" else chr(97 + x[1]) + chr(97 + x[0])}]')
  return ''.join(text) + ')'


def random_games(count, length=12, size=5, seed=0):
  """Games without captures: white in the lower rows, black in the upper."""
  rng, games = np.random.default_rng(seed), []
  upper = [(r, c) for r in range(2) for c in range(size)][1:]
  lower = [(r, c) for r in range(size - 2, size) for c in range(size)][1:]
  for _ in range(count):
    pairs = zip(rng.permutation(len(upper)), rng.permutation(len(lower)), strict=True)
    moves = [x for b, w in pairs for x in (upper[b], lower[w])]
    games.append(moves[:length])
  return games


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path


def write(folder, games, name='games.txt', **options):
  path = folder / name
  path.write_text('\n'.join(line(game, **options) for game in games) + '\n')
  return str(path)


def sharding(devices=1):
  mesh = Mesh(np.array(jax.devices()[:devices]), ('data',))
  return NamedSharding(mesh, PartitionSpec('data'))


def test_games_are_divided_not_positions_and_a_game_is_where_its_moves_are(cache):
  games = random_games(200)
  one = write(cache, games[:120])
  two = write(cache, [*games[80:], *random_games(5, 18, seed=8)], 'more.txt')  # some are longer
  data = GoGames(f'{one},{two}', size=5, test_fraction=0.25)
  rows = {x: {tuple(r) for r in data.split(x).games.points.tolist()} for x in ('train', 'test')}
  assert not rows['train'] & rows['test']
  assert len(data.split('train').games.points) + len(data.split('test').games.points) == 245
  assert 30 < len(data.split('test').games.points) < 90
  alone = GoGames(one, size=5, test_fraction=0.25).split('test').games.points.tolist()
  assert {tuple(r) for r in alone} <= {r[:12] for r in rows['test']}


def test_what_cannot_be_used_is_left_out_and_named_in_a_line_of_the_log(cache, caplog):
  games = random_games(30)
  path = write(cache, games)
  with open(path, 'a') as file:
    file.write(line([(0, 0), (1, 1), (0, 0)]) + '\n')  # on a stone
    file.write(line([(0, 0)], size=9) + '\n')
    file.write('(;GM[1]SZ[5];B[zz])\n')
  with caplog.at_level(logging.WARNING):
    data = GoGames(path, size=5, test_fraction=0.5)
  assert sum(len(data.split(x).games.points) for x in ('train', 'test')) == 30
  said = ' | '.join(record.getMessage() for record in caplog.records)
  assert '1 games on other boards than 5 are left out' in said
  assert (
    '1 of 31 games are left out, the first of them game 31: move 3: the point is occupied' in said
  )
  assert len(caplog.records) == 3


def test_gzip_folders_and_single_files_are_read_alike(cache):
  games = random_games(12)
  plain = write(cache, games)
  with gzip.open(cache / 'games.txt.gz', 'wt') as file:
    file.write(pathlib.Path(plain).read_text())
  folder = cache / 'folder'
  folder.mkdir()
  for i, game in enumerate(games):
    (folder / f'{i:02}.sgf').write_text(line(game).replace(';B', '\n;B'))
  single = ','.join(str(x) for x in sorted(folder.iterdir()))
  expected = GoGames(plain, size=5, test_fraction=0.4).split('train')
  for dataset in (str(cache / 'games.txt.gz'), str(folder), single):
    found = GoGames(dataset, size=5, test_fraction=0.4).split('train')
    np.testing.assert_array_equal(found.games.points, expected.games.points)
    np.testing.assert_array_equal(found.targets, expected.targets)


def test_passes_and_handicap_stones_are_not_to_be_predicted_and_two_passes_end_a_game(cache):
  game = [(0, 1), (3, 1), 'pass', (3, 2), (0, 2), 'pass', 'pass', (0, 3)]
  path = cache / 'games.txt'
  handicap = '(;GM[1]SZ[5]HA[2]AB[aa][ee];W[ba];B[cc];W[db])'
  path.write_text(f'{line(game)}\n{handicap}\n' + '\n'.join(map(line, random_games(8, seed=9))))
  data = GoGames(str(path), size=5, test_fraction=0.5)
  found = {}
  for split in ('train', 'test'):
    part = data.split(split)
    for i in range(len(part.lengths)):
      there = part.targets[part.first_target[i] : part.first_target[i + 1]] - i * data.entries
      found[tuple(part.games.points[i, : part.lengths[i]].tolist())] = there.tolist()
  assert found[1, 16, 25, 17, 2, 25, 25] == [0, 1, 3, 4]
  assert found[0, 24, 1, 12, 8] == [2, 3, 4]


# -------- batches --------


def test_a_batch_is_a_function_of_seed_and_step_whoever_holds_it(cache):
  data = GoGames(write(cache, random_games(60)), size=5, batch_size=16)
  batches = [
    data.train_source(seed, sharding(devices)).next((), step)[1]
    for seed, step, devices in [(0, 7, 1), (0, 7, 8), (0, 8, 1), (1, 7, 1)]
  ]
  assert {x: v.shape[0] for x, v in batches[0].items()} == dict.fromkeys(batches[0], 16)
  for name, x in batches[0].items():
    np.testing.assert_array_equal(x, batches[1][name])
  for other in batches[2:]:
    assert (np.asarray(other['index']) != np.asarray(batches[0]['index'])).any()


def test_an_epoch_has_each_position_once_with_the_move_that_was_played(cache):
  games = random_games(20, length=6)
  data = GoGames(write(cache, games), size=5, batch_size=6, test_fraction=0.4, symmetries=False)
  source, index = data.train_source(0, sharding()), []
  steps = data.num_positions('train') // 6
  for step in range(steps):
    _, batch = source.next((), step)
    for points, count, move in zip(
      *(np.asarray(batch[x]) for x in ('points', 'count', 'move')), strict=True
    ):
      assert points[count] == move
    index += batch['index'].tolist()
  assert len(index) == len(set(index)) == 6 * steps


def test_a_batch_with_symmetries_is_the_rotated_or_mirrored_board_and_move(cache):
  path = write(cache, random_games(60))
  straight, turned = (
    GoGames(path, size=5, batch_size=32, symmetries=x).train_source(0, sharding()).next((), 3)[1]
    for x in (False, True)
  )
  game = Go(5, max_moves=12)

  @jax.jit
  def boards(batch):
    return jax.vmap(game.board)(recorded.states(game, batch))

  @jax.jit
  @jax.vmap
  def symmetries(board, move):
    boards = jnp.stack([symmetry.board(board, k) for k in range(8)])
    return boards, jnp.stack([symmetry.action(move, k, 5) for k in range(8)])

  expected = symmetries(boards(straight), straight['move'])  # [32, 8, 5, 5] and [32, 8]
  same_board = np.asarray(expected[0] == boards(turned)[:, None]).all((2, 3))
  same = same_board & np.asarray(expected[1] == turned['move'][:, None])
  assert same.any(1).all()
  unambiguous = same[same.sum(1) == 1]
  assert unambiguous.any(0).sum() >= 6


def test_results_are_of_the_player_to_move(cache):
  path = cache / 'games.txt'
  games = random_games(40)
  path.write_text('\n'.join(line(g, result=('B+R', 'W+2.5')[i % 2]) for i, g in enumerate(games)))
  data = GoGames(str(path), size=5, test_fraction=0.5, with_result=True)
  _, batch = data.train_source(0, sharding()).next((), 0)
  part, index = data.split('train'), np.asarray(batch['index'])
  number = part.targets[index] // data.entries
  sign = np.where(np.asarray(batch['count']) % 2 == 0, 1, -1)
  np.testing.assert_array_equal(batch['result'], part.result[number] * sign)
  assert set(np.unique(batch['result'])) == {-1.0, 1.0}


def test_only_games_that_say_who_won_where_that_is_asked_for(cache):
  path = cache / 'games.txt'
  results = ['B+R', '?', 'Void', '0', 'W+T'] * 8
  games = random_games(40)
  path.write_text('\n'.join(line(g, result=r) for g, r in zip(games, results, strict=True)))
  data = GoGames(str(path), size=5, test_fraction=0.5, with_result=True)
  assert sum(len(data.split(x).games.points) for x in ('train', 'test')) == 24


def test_one_position_of_each_game_another_one_each_epoch(cache):
  data = GoGames(
    write(cache, random_games(40)), size=5, positions='one', test_fraction=0.2, batch_size=8
  )
  games = len(data.split('train').games.points)
  assert data.num_positions('train') == games
  steps = [data.train_source(0, sharding()).next((), step)[1] for step in range(3 * games // 8)]
  index = np.concatenate([x['index'] for x in steps])
  number = data.split('train').targets[index] // data.entries
  assert sorted(number[:games]) == list(range(games))
  assert len(set(index.tolist())) > 1.5 * games  # of three draws a game, most differ


def test_an_evaluation_sees_so_many_test_positions_in_order_spread_evenly(cache):
  path = write(cache, random_games(60))
  data = GoGames(path, size=5, test_fraction=0.4, eval_positions=20, eval_batch_size=8)
  batches = list(data.eval_batches('test', sharding()))
  mask = np.concatenate([x['mask'] for x in batches])
  index = np.concatenate([x['index'] for x in batches])
  assert mask.tolist() == [1.0] * 20 + [0.0] * 4
  assert (index[20:] == -1).all()
  gaps = np.diff(index[:20])
  assert index[0] == 0 and index[19] == data.num_positions('test') - 1
  assert gaps.max() - gaps.min() <= 1
  everything = GoGames(path, size=5, test_fraction=0.4, eval_batch_size=8)
  total = sum(x['mask'].sum() for x in everything.eval_batches('test', sharding()))
  assert total == everything.num_positions('test')


@pytest.mark.parametrize(
  ('options', 'text'),
  [
    ({'dataset': ''}, "data.dataset='': give FILE"),
    ({'dataset': 'nowhere.txt'}, 'there is no nowhere.txt'),
    ({'test_fraction': 0.0}, 'data.test_fraction=0.0: must be between 0 and 1'),
    ({'test_fraction': 1e-9}, "leaves no game for the split 'test'; there are 3"),
    ({'positions': 'some'}, "data.positions='some': unknown; choices: all, one"),
    ({'batch_size': 0}, 'data.batch_size=0: must be at least 1'),
    ({'size': 9}, "leaves no game for the split 'train'; there are 0"),
  ],
)
def test_what_is_wrong_is_said_at_once(cache, options, text):
  given = {'dataset': write(cache, random_games(3)), 'size': 5, **options}
  with pytest.raises(ValueError, match=text.replace('(', r'\(')):
    GoGames(**given)


def test_with_read_false_nothing_is_read_until_it_is_needed():
  data = GoGames('nowhere.txt', read=False)
  with pytest.raises(ValueError, match=r'there is no nowhere\.txt'):
    data.split('train')
