"""Self-play move by move: what is learned of games that are known in advance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcts
from mcts.engines import players
from mcts.match.batch import play_pairs
from mcts.match.exhaustive import count_outcomes
from mcts.search import evaluators
from mcts.search.policies import Gumbel, Puct
from mcts.selfplay import actor, resignation
from mcts.selfplay.settings import (
  ExplorationSettings,
  ResignationSettings,
  SearchSettings,
  SelfPlay,
)
from tests.mcts.search.synthetic import keys_of

GAME = mcts.build('tictactoe')


def self_play(num_simulations, selection=Puct(), search=(), exploration=(), **options):  # noqa: B008
  """Settings; search, exploration: of their sections."""
  search = SearchSettings(num_simulations, **dict(search))
  return SelfPlay(selection, search, ExplorationSettings(**dict(exploration)), **options)


PLAIN = self_play(4)
# Cells in the order in which they are taken: won by the first player, by the second, drawn.
SCRIPTS = {1: (0, 3, 1, 4, 2), -1: (0, 3, 1, 4, 8, 5), 0: (0, 1, 2, 4, 3, 5, 7, 6, 8)}


def scripted(moves, value=lambda stones: 0.0 * stones):
  """A network that is sure of the next move of a list; value: of the number of stones `[B]`."""
  moves = np.array([*moves, 0], np.int32)

  def apply(planes):
    stones = planes.astype(jnp.int32).sum((1, 2, 3))
    sure = 1e4 * jax.nn.one_hot(jnp.asarray(moves)[jnp.minimum(stones, len(moves) - 1)], 9)
    return sure, value(stones.astype(jnp.float32))

  return apply


def uniform(actions):
  return lambda planes: (jnp.zeros((len(planes), actions)), jnp.zeros(len(planes)))


def run(
  apply, settings, plies, game=GAME, batch=1, threshold=-2.0, seed=0, keys=None, opponent=None
):
  """Transitions `[T, B, ...]`, the metrics of each ply, and the actors after each ply."""
  actors = actor.init(game, settings, keys_of(batch, seed) if keys is None else keys)
  step = jax.jit(functools.partial(actor.play, game, settings, apply, opponent=opponent))
  entries, metrics, history = [], [], [actors]
  for _ in range(plies):
    actors, entry, more = step(actors, jax.random.key(7), jnp.float32(threshold))
    entries.append(entry)
    metrics.append(more)
    history.append(actors)
  stacked = jax.tree.map(lambda *plies: jnp.stack(plies), *entries)
  return jax.device_get(stacked), metrics, history


def is_fresh(state, env=0, game=GAME):
  ours = jax.tree.map(lambda x: np.asarray(x[env]), state)
  same = jax.tree.map(lambda x, y: np.array_equal(x, y), ours, jax.device_get(game.init()))
  return all(jax.tree.leaves(same))


@pytest.mark.long
@pytest.mark.parametrize('result', list(SCRIPTS))
def test_the_outcome_is_the_first_players_and_the_game_begins_anew(result):
  """X X X    X X .    X O X
  O O .    O O O    X O O
  . . .    . . X    O X X"""
  moves = SCRIPTS[result]
  entries, _, history = run(scripted(moves), PLAIN, 2 * len(moves))
  ends = [len(moves) - 1, 2 * len(moves) - 1]
  assert np.flatnonzero(entries.ended[:, 0]).tolist() == ends
  assert entries.outcome[ends, 0].tolist() == [result] * 2
  players = [i % 2 for i in range(len(moves))] * 2
  assert entries.player[:, 0].tolist() == players
  for i, entry_planes in enumerate(entries.planes[:, 0]):
    turn = i % len(moves)
    own, other = (moves[turn % 2 : turn : 2], moves[1 - turn % 2 : turn : 2])
    np.testing.assert_array_equal(np.flatnonzero(entry_planes[..., 0]), sorted(own))
    np.testing.assert_array_equal(np.flatnonzero(entry_planes[..., 1]), sorted(other))
    taken = set(moves[:turn])
    assert np.flatnonzero(entries.legal[i, 0]).tolist() == [x for x in range(9) if x not in taken]
    assert entries.policy[i, 0].argmax() == moves[turn]
  for ply in (0, len(moves), 2 * len(moves)):
    assert is_fresh(history[ply].state)
    assert history[ply].length[0] == 0
  assert [int(x.length[0]) for x in history[: len(moves)]] == list(range(len(moves)))


@pytest.mark.long
@pytest.mark.parametrize(('selection', 'simulations'), [(Puct(), 200), (Gumbel(), 20)], ids=str)
def test_the_searchs_value_is_the_players_who_is_to_move(selection, simulations):
  """X X .   whoever is to move wins at once: X with 2, and before that O could not stop it.
  O O .
  . . ."""
  moves = SCRIPTS[1]
  settings = self_play(simulations, selection)
  entries, _, _ = run(uniform(9), settings, 1)
  state = jax.tree.map(lambda x: x[None], GAME.init())
  for move in moves[:4]:
    state = jax.vmap(GAME.step)(state, jnp.full(1, move))
  actors = actor.init(GAME, settings, keys_of(1))
  actors = actor.Actors(**{**vars(actors), 'state': state, 'length': jnp.full(1, 4)})
  new, entry, _ = jax.jit(functools.partial(actor.play, GAME, settings, uniform(9)))(
    actors, jax.random.key(0), jnp.float32(-2)
  )
  assert entry.value[0] > 0.5 and entry.ended[0] and entry.outcome[0] == 1
  assert entry.policy[0].argmax() == 2 and is_fresh(new.state)
  assert abs(entries.value[0, 0]) < 0.5


@pytest.mark.long
def test_a_game_of_go_is_cut_and_scored_as_it_stands():
  """. X .  Three moves, and the game is cut: two stones of black's, one of white's, and komi 0.5;
  . O .  the empty points touch both.
  . X ."""
  game = mcts.build('go', size=3, komi=0.5, max_moves=3, history=1)
  moves = np.array([1, 4, 7, 0])

  def apply(planes):
    stones = planes[..., :2].astype(jnp.int32).sum((1, 2, 3))
    return 1e4 * jax.nn.one_hot(jnp.asarray(moves)[stones], 10), 0.0 * stones

  settings = self_play(2, aux_targets=True)
  entries, _, history = run(apply, settings, 6, game)
  assert entries.ended[:, 0].tolist() == [False, False, True] * 2
  assert entries.outcome[[2, 5], 0].tolist() == [1, 1]
  assert entries.aux['score'][2, 0] == 0.5
  assert entries.aux['ownership'][2, 0].tolist() == [[0, 1, 0], [0, -1, 0], [0, 1, 0]]
  assert entries.aux_known[2, 0]
  assert is_fresh(history[3].state, game=game)
  assert entries.planes[:3, 0, ..., -1].all((1, 2)).tolist() == [True, False, True]  # black to move


# -------- resignation --------


def losing(player):
  """The player (0, 1) believes that all is lost, the other that all is won."""
  return lambda stones: jnp.where(stones % 2 == player, -0.95, 0.95)


@pytest.mark.long
def test_who_resigns_has_lost():
  settings = self_play(4, resignation=ResignationSettings(0.05, 1e-9))
  for player, result in ((0, -1), (1, 1)):
    apply = scripted(SCRIPTS[0], losing(player))
    entries, metrics, history = run(apply, settings, 4, threshold=-0.5)
    length = player + 1
    assert entries.ended[:, 0].tolist() == [(i + 1) % length == 0 for i in range(4)]
    assert set(entries.outcome[entries.ended[:, 0], 0]) == {result}
    assert not entries.aux_known[entries.ended[:, 0], 0].any()
    assert is_fresh(history[length].state)
    assert float(metrics[length - 1][0]['resigned'][0]) == 1


def test_a_game_without_resignation_counts_false_positives():
  """The second player despairs, and wins."""
  settings = self_play(4, resignation=ResignationSettings(0.05, 1.0))
  apply = scripted(SCRIPTS[-1], losing(1))
  entries, metrics, history = run(apply, settings, 6, threshold=-0.5)
  assert entries.ended[:, 0].tolist() == [False] * 5 + [True]
  assert history[5].lowest_value[0, 1] < -0.9 and history[6].lowest_value.tolist() == [[1, 1]]
  stats, (not_lost, games) = metrics[-1]
  assert [float(x) for x in stats['resign_false_positives']] == [1, 1]
  assert float(not_lost.sum()) == float(games.sum()) == 1
  assert not_lost.argmax() == games.argmax() < 10  # a value near -0.9


def test_the_threshold_allows_no_more_false_positives_than_are_asked_for():
  """100 games were as low as -0.9, of which 2 were not lost; 100 as low as -0.5, of which 30."""
  settings, bins = (
    ResignationSettings(0.05, 0.1),
    [int(0.1 * resignation.BINS), int(0.5 * resignation.BINS)],
  )
  zeros = np.zeros(resignation.BINS, np.float32)
  games, not_lost = zeros.copy(), zeros.copy()
  games[bins], not_lost[bins] = 100, (2, 30)
  threshold = float(resignation.update(settings, resignation.init(), not_lost, games).threshold)
  assert -0.9 < threshold <= -0.5
  few = resignation.update(settings, resignation.init(), zeros, games / 20)
  assert float(few.threshold) == resignation.NEVER  # ten games tell too little
  not_lost[bins[0]] = 30
  assert float(resignation.update(settings, resignation.init(), not_lost, games).threshold) == -2


def test_lowest_values_by_player_and_outcome():
  lowest = jnp.array([[-0.9, -0.2], [-0.9, -0.2], [-0.9, -0.2], [-0.9, -0.2]])
  outcome, counted = jnp.array([1.0, -1.0, 0.0, 1.0]), jnp.array([True, True, True, False])
  not_lost, games = resignation.tally(lowest, outcome, counted)
  low, high = int(0.1 * resignation.BINS), int(0.8 * resignation.BINS)
  assert games[low] == games.sum() == 3
  assert (not_lost[low], not_lost[high], not_lost.sum()) == (2, 1, 3)


# -------- searching and choosing --------

POLICIES = [
  Puct(dirichlet_fraction=1.0),
  Puct(dirichlet_fraction=0.25, forced_playouts=2.0),
  Gumbel(max_num_considered_actions=4),
]


@pytest.mark.long
@pytest.mark.parametrize('selection', POLICIES, ids=str)
def test_no_illegal_move_is_played_or_learned(selection):
  settings = self_play(8, selection, exploration={'temperature_moves': 9})
  entries, _, _ = run(uniform(9), settings, 30, batch=8)
  assert not (entries.policy * ~entries.legal).any()
  np.testing.assert_allclose(entries.policy.sum(-1), 1, atol=1e-5)
  free = 9 - entries.planes.sum((2, 3, 4))
  np.testing.assert_array_equal(entries.legal.sum(-1), free)
  assert (np.abs(entries.outcome[entries.ended]) <= 1).all() and entries.ended.sum() > 20


@pytest.mark.long
def test_moves_are_drawn_at_first_and_then_the_best():
  drawn = self_play(8, exploration={'temperature_moves': 2})
  entries, _, _ = run(uniform(9), drawn, 3, batch=32)
  stones = entries.planes.any(-1).reshape(3, 32, 9)
  assert len({x.tobytes() for x in stones[1]}) > 3
  best, _, _ = run(uniform(9), PLAIN, 3, batch=32)
  assert all(len({x.tobytes() for x in ply}) == 1 for ply in best.planes)


@pytest.mark.long
def test_fast_searches_are_not_learned_from():
  search = {'full_search_prob': 0.5, 'fast_num_simulations': 3}
  settings = self_play(12, Puct(dirichlet_fraction=0.25), search)
  entries, _, _ = run(uniform(9), settings, 60, batch=2)
  trainable = entries.trainable
  np.testing.assert_array_equal(trainable[:, 0], trainable[:, 1])
  assert 15 < trainable[:, 0].sum() < 45
  for full, visits in ((True, 12), (False, 3)):
    shares = entries.policy[trainable[:, 0] == full] * visits
    np.testing.assert_allclose(shares, shares.round(), atol=1e-4)


@pytest.mark.long
def test_games_do_not_depend_on_their_neighbours():
  settings = self_play(8, Puct(dirichlet_fraction=0.25), exploration={'temperature_moves': 9})
  keys = keys_of(6)
  together, _, _ = run(uniform(9), settings, 12, batch=6, keys=keys)
  alone, _, _ = run(uniform(9), settings, 12, batch=2, keys=keys[4:])
  for name in ('planes', 'policy', 'value', 'ended', 'outcome'):
    np.testing.assert_array_equal(getattr(together, name)[:, 4:], getattr(alone, name))


def test_games_begin_with_some_random_moves_that_are_not_learned():
  settings = self_play(3, exploration={'max_random_opening_moves': 3})
  entries, _, _ = run(liking(1), settings, 80, batch=8, keys=keys_of(8))
  stones = entries.planes.astype(int).sum((2, 3, 4))
  begins = []
  for env in range(8):
    for end, start in zip(*bounds(entries.ended[:, env]), strict=True):
      learned = entries.trainable[start : end + 1, env].tolist()
      begins.append(learned.index(True))
      assert learned == [False] * begins[-1] + [True] * (len(learned) - begins[-1])
  assert set(begins) == {0, 1, 2, 3}
  firsts = entries.planes[stones == 1].reshape(-1, 9, 2).any(-1).argmax(-1)
  assert len(set(firsts.tolist())) > 5


@pytest.mark.parametrize('chance', [0.5, 1.0])
def test_random_moves_have_the_searchs_policy_as_their_target(chance):
  settings = self_play(3, exploration={'random_move_prob': chance})
  entries, _, _ = run(liking(1), settings, 40, batch=8, keys=keys_of(8))
  assert entries.trainable.all()
  free = ~entries.planes.any(-1).reshape(-1, 9)
  np.testing.assert_array_equal(entries.policy.reshape(-1, 9).argmax(-1), free.argmax(-1))
  going = ~entries.ended[:-1]
  before, after = (x.any(-1).reshape(39, 8, 9) for x in (entries.planes[:-1], entries.planes[1:]))
  moves = (after & ~before).argmax(-1)[going]
  liked = moves == (~before).argmax(-1)[going]
  assert abs(liked.mean() - (1 - chance * (1 - 1 / (~before).sum(-1)[going]).mean())) < 0.1


def bounds(over):
  """The last and the first ply of each game of a env."""
  ends = np.flatnonzero(over)
  return ends, [0, *(ends[:-1] + 1)]


def liking(sign):
  """A network that is sure of the first free cell (1) or of the last (-1)."""
  likes = -1e3 * sign * jnp.arange(9.0)
  return lambda planes: (jnp.broadcast_to(likes, (len(planes), 9)), jnp.zeros(len(planes)))


@pytest.mark.long
def test_an_opponent_plays_one_side_of_its_environments_and_is_not_learned_from():
  settings = self_play(3, opponent_stride=4)
  keys = keys_of(8)
  entries, metrics, _ = run(liking(1), settings, 60, batch=8, keys=keys, opponent=liking(-1))
  alone, _, _ = run(liking(1), PLAIN, 60, batch=8, keys=keys)
  first = entries.policy.argmax(-1) == entries.legal.argmax(-1)
  last = entries.policy.argmax(-1) == 8 - entries.legal[..., ::-1].argmax(-1)
  np.testing.assert_array_equal(entries.trainable, first)
  assert (first | last).all()
  for env in range(8):
    by_opponent = [sides for _, sides in ended(entries, first, env)]
    if env % 4:
      assert not any(by_opponent)
      np.testing.assert_array_equal(entries.planes[:, env], alone.planes[:, env])
    else:
      assert {0} in by_opponent and {1} in by_opponent and {0, 1} not in by_opponent
  points, games = (float(sum(x[0]['opponent_share'][i] for x in metrics)) for i in (0, 1))
  mine = [
    (1 + entries.outcome[i, env] * (1 if sides == {1} else -1)) / 2
    for env in (0, 4)
    for i, sides in ended(entries, first, env)
  ]
  assert games == len(mine) and points == pytest.approx(sum(mine))


def ended(entries, first, env):
  """(last ply, the opponent's players) of each game of a env."""
  for end, start in zip(*bounds(entries.ended[:, env]), strict=True):
    plies = range(start, end + 1)
    yield end, {int(entries.player[i, env]) for i in plies if not first[i, env]}


@pytest.mark.long
def test_a_search_goes_on_from_the_last_one_but_not_into_a_new_game():
  moves = SCRIPTS[1]
  settings = self_play(8, search={'reuse_tree': True})
  _, _, history = run(scripted(moves), settings, len(moves) + 2)
  visits = [int(x.tree.root_visits.sum()) for x in history[1:]]
  assert visits[1] > 8 and visits[0] == 8
  assert visits[len(moves)] == 8, 'the first move of the second game begins from nothing'
  with pytest.raises(ValueError, match=r"search\.reuse_tree=True: needs selection='puct'"):
    self_play(8, Gumbel(), {'reuse_tree': True})


# -------- matches --------


def first_free(states, keys):
  return jax.vmap(GAME.legal)(states).argmax(-1)


def test_pairs_of_games_know_who_moved_first():
  """Whoever takes the first free cell and moves first wins by 2, 4, 6 against the same."""
  player = first_free
  results = jax.jit(lambda keys: play_pairs(GAME, (player, player), keys, 0))(keys_of(3))
  assert results.tolist() == [[1, -1]] * 3
  # After one move at random `first` moves second in the game, and both games begin alike.
  results = np.asarray(play_pairs(GAME, (player, player), keys_of(20), 1))
  np.testing.assert_array_equal(results[:, 0], -results[:, 1])


@pytest.mark.long
def test_a_search_beats_random_moves():
  strong = players.search_player(GAME, evaluators.uniform(GAME), Puct(), 60)
  weak = players.random_player(GAME)
  results = np.asarray(jax.jit(lambda keys: play_pairs(GAME, (strong, weak), keys, 0))(keys_of(40)))
  assert results.mean() > 0.8
  again = np.asarray(jax.jit(lambda keys: play_pairs(GAME, (weak, strong), keys, 0))(keys_of(40)))
  assert again.mean() < -0.8


def lines_by_hand(board, mover, side):
  """(wins, draws, losses) of the player that takes the first free cell, as `side`."""
  rows = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
  for a, b, c in rows:
    if board[a] != '.' and board[a] == board[b] == board[c]:
      return (1, 0, 0) if 'XO'.index(board[a]) == side else (0, 0, 1)
  free = [i for i in range(9) if board[i] == '.']
  if not free:
    return (0, 1, 0)
  found = [
    lines_by_hand(board[:i] + 'XO'[mover] + board[i + 1 :], 1 - mover, side)
    for i in (free[:1] if mover == side else free)
  ]
  return tuple(map(sum, zip(*found, strict=True)))


@pytest.mark.parametrize('side', [0, 1])
def test_all_lines_of_play_are_counted(side):
  lines = count_outcomes(GAME, jax.jit(first_free), side)
  assert lines == lines_by_hand('.' * 9, 0, side)
  assert sum(lines) > 20


def test_too_many_lines_are_refused():
  with pytest.raises(ValueError, match='lines are open at a time: more than 20'):
    count_outcomes(GAME, first_free, 1, max_open=20)
