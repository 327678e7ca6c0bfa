"""Matches are fair and counted right, and a program's answers are checked against the rules."""

import json
import math
import os
import re
import shlex
import sys
import textwrap

import jax
import numpy as np
import pytest

from mcts.engines import NoAnswer, RuleSet, SearchEngine, clock
from mcts.go.notation import result
from mcts.match import arena, contestants, elo, lockstep
from mcts.match.contestants import EngineContestant, from_spec
from mcts.match.terms import MatchTerms, Openings, TimeLimits
from mcts.search import evaluators

GNU_GO = '/usr/games/gnugo'
GNU_GO_COMMAND = (
  f'{GNU_GO} --mode gtp --chinese-rules --positional-superko --capture-all-dead --level 1'
)


def match(first, second, *, num_games=2, log=lambda _: None, terms=None, **options):
  players = (from_spec(x) if isinstance(x, str) else EngineContestant(x) for x in (first, second))
  return arena.match(*players, terms or terms_of(), num_games=num_games, log=log, **options)


def terms_of(*, size=5, komi=7.5, opening=None, seed=0, time='', timeout=60.0, max_moves=None):
  return MatchTerms(
    RuleSet(size, komi),
    Openings(opening, seed),
    TimeLimits(clock.parse(time), timeout),
    max_moves,
  )


def replayed(game, terms):
  """Returns the position after the game, every move of which the rules must allow."""
  position = terms.rules.position()
  for action in game.moves:
    position.play(position.to_play, action)
  return position


# -------- figures --------


def test_elo_of_known_shares():
  assert elo.estimate(10, 0, 10).elo == 0
  assert elo.estimate(3, 0, 1).elo == pytest.approx(400 * math.log10(3))
  assert elo.estimate(64, 0, 36).elo == pytest.approx(100, abs=0.5)
  assert elo.estimate(0, 10, 0).elo == 0
  assert elo.expected(elo.difference(0.3)) == pytest.approx(0.3)


def test_the_interval_is_wilsons():
  """9 of 10: (0.596, 0.982) in Wilson's interval, a textbook value."""
  guess = elo.estimate(9, 0, 1)
  assert elo.expected(guess.low) == pytest.approx(0.5958, abs=1e-3)
  assert elo.expected(guess.high) == pytest.approx(0.9821, abs=1e-3)
  whole = elo.estimate(20, 0, 0)
  assert whole.elo == whole.high == math.inf and 200 < whole.low < 400
  assert elo.estimate(0, 0, 0).low == -math.inf


def test_the_interval_holds_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  wins = rng.binomial(100, elo.expected(100), 2000)
  guesses = [elo.estimate(int(w), 0, 100 - int(w)) for w in wins]
  assert 0.93 < np.mean([guess.low <= 100 <= guess.high for guess in guesses]) < 0.97


def test_the_sprt_errs_as_seldom_as_it_says():
  rng = np.random.default_rng(0)

  def decide(strength):
    wins = losses = 0
    while (test := elo.sprt(wins, 0, losses, 0, 100)).decision is None:
      won = rng.random() < elo.expected(strength)
      wins, losses = wins + won, losses + (not won)
    return test.decision

  assert np.mean([decide(0) == 'H1' for _ in range(400)]) < 0.07
  assert np.mean([decide(100) == 'H0' for _ in range(400)]) < 0.07
  with pytest.raises(ValueError, match='elo0 < elo1'):
    elo.sprt(1, 0, 1, 50, 0)


# -------- in one batch --------


@pytest.mark.long
def test_pairs_share_their_opening_and_change_colours():
  played = match('random', 'random', num_games=6, terms=terms_of(opening=3))
  assert [game.number for game in played.games] == list(range(6))
  for first, second in zip(played.games[::2], played.games[1::2], strict=True):
    assert first.moves[:3] == second.moves[:3] and (first.black, second.black) == (0, 1)
  assert len({game.moves[:3] for game in played.games}) > 1


@pytest.mark.long
def test_games_in_a_batch_are_legal_and_scored_right():
  played = match('random', 'rollout:4', num_games=8, terms=terms_of(komi=0.5))
  for game in played.games:
    position = replayed(game, played.terms)
    assert game.result == result(position.score)
    assert position.passes == 2 or len(game.moves) == played.terms.move_limit
    assert game.winner == (game.black if position.score > 0 else 1 - game.black)


@pytest.mark.long
def test_a_game_is_the_same_in_any_company():
  whole = match('random', 'rollout:4', num_games=8).games
  parts = match('random', 'rollout:4', num_games=8, batch_size=4).games
  assert [game.moves for game in whole] == [game.moves for game in parts]
  other = match('random', 'rollout:4', num_games=8, terms=terms_of(seed=1)).games
  assert [game.moves for game in whole] != [game.moves for game in other]


@pytest.mark.long
def test_search_beats_chance():
  played = match('rollout:16', 'random', num_games=16)
  assert played.points(0)[0] >= 12
  assert sum(played.wins(0, colour)[1] for colour in (0, 1)) == 16


def test_even_komi_may_be_a_draw():
  """On the smallest board a cap of few moves leaves boards with equal areas."""
  terms = terms_of(size=2, komi=0.0, max_moves=2, opening=0)
  played = match('random', 'random', num_games=20, terms=terms)
  assert played.points(0)[1] > 0
  assert sum(played.points(0)) == 20 and played.points(0)[0] == played.points(1)[2]


@pytest.mark.long
def test_a_sequential_test_ends_the_match():
  played = match('rollout:32', 'random', num_games=200, batch_size=16, sprt=(0, 200))
  assert played.test.decision == 'H1' and len(played.games) < 200


@pytest.mark.long
def test_networks_play_in_one_batch():
  def net(planes):
    score = planes[..., 0].astype(np.float32).mean((1, 2)) - planes[..., 1].mean((1, 2))
    return jax.numpy.zeros((planes.shape[0], 26)), score

  players = [
    SearchEngine(lambda game, make=make: make(game, net), 'network', num_simulations=4)
    for make in (evaluators.network, evaluators.random_symmetry)
  ]
  played = match(*players, num_games=4)
  assert len(played.games) == 4 and played.names == ('network (1)', 'network (2)')
  for game in played.games:
    replayed(game, played.terms)


@pytest.mark.long
def test_what_a_match_leaves_behind(tmp_path):
  from sgfmill import sgf, sgf_moves

  lines = []
  played = match('random', 'rollout:4', num_games=8, workdir=str(tmp_path), log=lines.append)
  report = json.loads((tmp_path / 'match.json').read_text())
  assert report['players'] == ['random', 'rollout:4'] and len(report['list']) == 8
  games = [line for line in lines if not line.startswith('turn ')]  # where the machine is slow
  assert games[-1] == played.summary() and games[0].startswith('game 1 of 8: random - rollout:4')
  for game in played.games:
    record = sgf.Sgf_game.from_bytes((tmp_path / f'{game.number:05}.sgf').read_bytes())
    root = record.get_root()
    assert (root.get('SZ'), root.get('RE')) == (5, game.result)
    board, moves = sgf_moves.get_setup_and_moves(record)
    for colour, point in moves:
      if point:
        board.play(*point, colour)
    assert result(board.area_score() - 7.5) == game.result
  with pytest.raises(ValueError, match='holds the games of another match'):
    match('random', 'random', workdir=str(tmp_path))


def test_a_batch_says_how_it_goes(monkeypatch):
  monkeypatch.setattr(arena, 'PROGRESS_INTERVAL', -1.0)
  lines = []
  match('random', 'random', num_games=4, log=lines.append)
  assert re.fullmatch(r'turn \d+: [1-4] games under way', lines[0])


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('', 'engines: random, uniform, rollout'),
    ('rollout:many', 'must be key=number'),
    ('rollout:sims=4', 'sims'),
    ('rollout:0', 'num_simulations 0: must be from 1 to 32768'),
  ],
)
def test_mistakes_about_players_are_named(spec, message):
  with pytest.raises(ValueError, match=message):
    match(spec, 'random')


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: terms_of(opening=50), 'opening 50: must be from 0 to 49 moves'),
    (lambda: terms_of(opening=2, max_moves=2), 'opening 2: must be from 0 to 1 moves'),
    (lambda: terms_of(timeout=0.0), 'answer_timeout 0.0: must be above 0 s'),
    (lambda: RuleSet(superko='natural'), "superko 'natural': choose from positional, "),
    (lambda: RuleSet(komi=math.inf), 'komi inf: must be from -1000 to 1000'),
    (lambda: match('random', 'random', num_games=0), 'games 0: must be at least 1'),
  ],
)
def test_mistakes_about_the_terms_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


# -------- a network without an answer --------


def sick(name='sick'):
  """An engine whose network gives NaN where a game began in the corner A2 (2x2) or by a pass."""

  def evaluator(game):
    uniform = evaluators.uniform(game)

    def evaluate(states, keys):
      logits, values = uniform(states, keys)
      first = states.record[:, 0] & 7  # the action; a turn later nothing of it has been captured
      ill = (states.num_entries >= 1) & ((first == 0) | (first == 4))
      return jax.numpy.where(ill[:, None], np.nan, logits), values

    return evaluate

  return SearchEngine(evaluator, name, num_simulations=2)


def test_it_ends_the_match_and_what_was_played_is_kept(tmp_path):
  """One pair after the other: the first begins at another point, a later one in the corner."""
  of_seed = [terms_of(size=2, opening=1, seed=seed) for seed in range(30)]
  begins = [lockstep.openings(each, range(8))[1][0].tolist() for each in of_seed]
  terms = next(t for t, first in zip(of_seed, begins, strict=True) if first[0] and 0 in first)
  lines = []
  with pytest.raises(NoAnswer, match=r'sick: at move \d+ of game \d+ its network gives NaN'):
    options = {'workdir': str(tmp_path), 'log': lines.append}
    match(sick(), 'random', num_games=16, batch_size=2, terms=terms, **options)
  report = json.loads((tmp_path / 'match.json').read_text())
  assert 'its network gives NaN' in report['ended'] and 0 < report['games'] < 16
  assert len(list(tmp_path.glob('*.sgf'))) == report['games']
  assert lines[-1].startswith('ended early: sick: at move')


def test_it_does_so_against_a_program_too(tmp_path):
  passes = program(tmp_path, 'if words[0] == "genmove": answer = "pass"')
  folder = tmp_path / 'games'
  with pytest.raises(NoAnswer, match=r'sick: at move 2 its network'):
    match(passes, sick(), terms=terms_of(size=2, opening=0), workdir=str(folder))
  assert json.loads((folder / 'match.json').read_text())['games'] == 0


def test_options_that_an_engine_lacks_are_named():
  with pytest.raises(
    ValueError, match=r"'random:temprature=3': has no 'temprature'; choose .* seed"
  ):
    from_spec('random:temprature=3')
  with pytest.raises(ValueError, match='num_parallel_leaves 0: must be at least 1'):
    from_spec('rollout:num_parallel_leaves=0')
  with pytest.raises(ValueError, match=r"'num_simulations=1\.5' must be key=number, a whole"):
    from_spec('rollout:num_simulations=1.5')
  with pytest.raises(ValueError, match='temperature nan: must be a finite number'):
    from_spec('rollout:temperature=nan')
  assert from_spec('rollout:temperature=1e-8', num_simulations=4).engine.temperature == 1e-8


# -------- programs --------


def program(tmp_path, body, name='rogue'):
  """Returns the command line of a GTP program; `body` sets its `answer` to `words`."""
  path = tmp_path / f'{name}.py'
  path.write_text(
    'import sys, time\n'
    'moves = []\n'
    'for line in sys.stdin:\n'
    '  words, answer, mark = line.split(), "", "="\n'
    '  if words[0] == "clear_board": moves = []\n'
    '  if words[0] == "play": moves.append(words[2].upper())\n'
    f'{textwrap.indent(textwrap.dedent(body), "  ")}\n'
    '  if words[0] == "genmove": moves.append(answer)\n'
    '  print(mark, answer, "\\n", flush=True)\n'
  )
  return f'{shlex.quote(sys.executable)} -S {shlex.quote(str(path))}'


@pytest.mark.long
@pytest.mark.parametrize(
  ('body', 'fault'),
  [
    ('if words[0] == "genmove": sys.exit(1)', "died at 'genmove"),
    ('if words[0] == "genmove": time.sleep(60)', "silent after 'genmove"),
    ('if words[0] == "genmove": answer = moves[0]', 'which is illegal, at move'),
    ('if words[0] == "genmove": answer = "Z99"', "answered genmove with 'z99'"),
    ('if words[0] == "genmove": answer = "I resign!"', "answered genmove with 'i resign!'"),
    ('if words[0] == "play": mark = "?"', "refused 'play"),
    ('if words[0] == "boardsize": mark = "hello"', "answered 'boardsize 5' with 'hello"),
  ],
)
def test_a_program_that_fails_or_cheats_loses_and_is_named(tmp_path, body, fault):
  played = match(program(tmp_path, body), 'random', terms=terms_of(timeout=1.0, opening=2))
  assert played.points(1) == (2, 0, 0)
  for game in played.games:
    colour = 'black' if game.black == 0 else 'white'
    assert game.fault.startswith(f'{played.names[0]} ({colour}) ') and fault in game.fault
    assert game.result == ('W+F' if game.black == 0 else 'B+F')
  assert fault in played.summary()


def test_what_does_not_start_loses(tmp_path):
  broken = tmp_path / 'program'
  broken.write_text('#!/no/such/interpreter')
  broken.chmod(0o755)
  played = match('random', f'{broken} --gtp')
  assert played.points(0)[0] == 2 and 'does not start' in played.games[0].fault


def test_neither_an_engine_nor_a_program():
  with pytest.raises(ValueError, match=r"player '/no/such/program --gtp': give .*; engines: "):
    match('random', '/no/such/program --gtp')


def test_resignation_and_time(tmp_path):
  quits = program(tmp_path, 'if words[0] == "genmove": answer = "resign"')
  played = match(quits, 'random')
  assert [game.result for game in played.games] == ['W+R', 'B+R'] and not played.games[0].fault
  slow = program(tmp_path, 'if words[0] == "genmove": time.sleep(0.4); answer = "pass"', 'slow')
  played = match(slow, 'random', terms=terms_of(time='0.2'))
  assert [game.result for game in played.games] == ['W+T', 'B+T']
  assert 'ran out of time' in played.games[0].fault


def test_two_programs_play(tmp_path):
  passes = program(tmp_path, 'if words[0] == "genmove": answer = "pass"')
  played = match(passes, passes, terms=terms_of(komi=0.5, opening=1))
  assert [len(game.moves) for game in played.games] == [3, 3]
  assert [game.result for game in played.games] == ['B+24.5', 'B+24.5']


def test_gtp_against_gtp():
  """Plays against our own GTP server, run as a program."""
  code = (
    'from mcts.engines import RuleSet, make\n'
    'from mcts.gtp import server\n'
    "server.play(make('random'), RuleSet(5))\n"
  )
  played = match(
    f'{shlex.quote(sys.executable)} -c {shlex.quote(code)}', 'random', terms=terms_of(opening=1)
  )
  for game in played.games:
    assert not game.fault and list(game.claims.values()) == [game.result]
    replayed(game, played.terms)


@pytest.mark.skipif(not os.path.exists(GNU_GO), reason='GNU Go is not installed')
def test_gnu_go_agrees_about_moves_and_score():
  played = match('random', GNU_GO_COMMAND, terms=terms_of(opening=1))
  for game in played.games:
    assert not game.fault and game.claims == {'gnugo': game.result}
    assert replayed(game, played.terms).passes == 2


@pytest.mark.parametrize(
  ('time', 'command'),
  [('59.9', 'time_settings 59 0 0'), ('60+29.7/5', 'time_settings 60 29 5')],
)
def test_a_program_is_told_of_no_more_time_than_there_is(time, command):
  assert contestants._time_commands(clock.parse(time)) == [command]
