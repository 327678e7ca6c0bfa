"""The verbs play and match open a run as an engine that searches with its network."""

import shutil

import jax
import numpy as np
import pytest

from mcts.engines import RuleSet, final_analysis
from mcts.go.position import Position
from mcts.gtp.session import Session
from mcts.match import arena
from mcts.match.contestants import EngineContestant, from_spec
from mcts.match.terms import MatchTerms
from tests.mcts.gtp.gtp_talk import answer
from train import play, verbs
from train.errors import UserError
from train.tasks.selfplay.task import SelfPlayTask

SMALL = {
  'task': {
    'name': 'selfplay',
    'game': 'go(size=5, komi=0.5, max_moves=20)',
    'num_envs': 8,
    'search': {'num_simulations': 2},
    'replay': {'window': 320, 'min_size': 0},
    'evaluation': {'num_games': 2, 'preview': False},
  },
  'model': {'name': 'policy_value', 'blocks': 1, 'channels': 4, 'value_width': 4},
  'data': {'name': 'selfplay', 'batch_size': 8},
  'optimizer': {'name': 'sgd', 'learning_rate': 0.01},
  'train': {'steps': 2, 'eval_every': 0, 'checkpoint_every': 1},
}


pytestmark = pytest.mark.usefixtures('one_device')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return trained(SMALL, tmp_path_factory.mktemp('runs') / 'small')


def trained(config, path):
  with pytest.MonkeyPatch.context() as patch:  # matches of which nothing is asked here
    patch.setattr(SelfPlayTask, 'evals', lambda *_: {})
    verbs.train(verbs.complete_config(config), str(path))
  return str(path)


@pytest.mark.long
def test_an_engine_searches_with_the_network(workdir):
  engine, position = (
    play.load_engine(workdir, num_simulations=8, num_parallel_leaves=1),
    Position(5),
  )
  analysis = final_analysis(engine, position, 0)
  assert analysis.visits == 8 and position.legal(0)[analysis.move]
  run = verbs.load_run(workdir)
  priors = {candidate.action: candidate.prior for candidate in analysis.candidates}
  state = run.task.game.init()
  logits, _ = run.task.apply(run.variables, np.asarray(run.task.game.observe(state))[None])
  shares = np.exp(np.asarray(logits)[0] - np.logaddexp.reduce(np.asarray(logits)[0]))
  for action, prior in priors.items():
    assert prior == pytest.approx(float(shares[action]), abs=1e-4)


@pytest.mark.long
def test_rules_may_be_others_than_those_of_training(workdir):
  engine = play.load_engine(workdir, num_simulations=2, num_parallel_leaves=1)
  assert final_analysis(engine, Position(5, 7.5, superko='situational'), 0).visits == 2


@pytest.mark.long
def test_a_board_of_another_size_is_refused(workdir):
  engine = play.load_engine(workdir)
  session = Session(engine, RuleSet(5))
  assert answer(session, 'boardsize 9') == (False, 'unacceptable size', None)
  assert answer(session, 'boardsize 5').success
  message = r'size 9: small plays on boards of size 5 alone'
  with pytest.raises(ValueError, match=message):
    Session(engine, RuleSet(9))
  with pytest.raises(ValueError, match=message):
    arena.match(EngineContestant(engine), from_spec('random'), MatchTerms(RuleSet(9)))


def test_a_size_that_nobody_knows_is_refused():
  with pytest.raises(ValueError, match=r'size 30: .* plays on boards of size 2 to 25'):
    arena.match(from_spec('random'), from_spec('random'), MatchTerms(RuleSet(30)))


def test_players_are_engines_programs_or_workdirs(workdir):
  made = play.contestant(f'{workdir}:num_simulations=3,seed=2', num_simulations=9)
  assert (made.engine.num_simulations, made.engine.seed) == (3, 2)
  assert made.name == f'{workdir}:num_simulations=3,seed=2'
  assert play.contestant(workdir, num_simulations=9).engine.num_simulations == 9
  assert play.contestant('rollout:400').engine.num_simulations == 400
  with pytest.raises(ValueError, match='must be key=number'):
    play.contestant(f'{workdir}:many')
  with pytest.raises(ValueError, match="has no 'depth'; choose from num_simulations"):
    play.contestant(f'{workdir}:depth=3')


@pytest.mark.long
def test_a_network_plays_a_match(workdir):
  played = arena.match(
    play.contestant(f'{workdir}:2'),
    from_spec('random'),
    MatchTerms(RuleSet(5), max_moves=12),
    num_games=2,
    log=lambda _: None,
  )
  assert sum(played.points(0)) == 2 and not any(game.fault for game in played.games)


@pytest.mark.long
def test_a_run_that_knows_no_go_is_refused(tmp_path):
  config = {**SMALL, 'task': {**SMALL['task'], 'game': 'tictactoe'}}
  trained(config, tmp_path)
  with pytest.raises(UserError, match='a run of task selfplay; to play, it must be of one'):
    play.load_engine(str(tmp_path))


@pytest.mark.long
def test_a_run_of_go_that_was_stopped_goes_on(workdir, tmp_path):
  """Small boards have no high bits in their records: the state has arrays without elements."""
  other = shutil.copytree(workdir, tmp_path / 'stopped')
  shutil.rmtree(other / 'checkpoints' / '2')
  runs = [verbs.load_run(path) for path in (workdir, trained(SMALL, other))]
  first, second = (jax.tree.leaves(run.variables) for run in runs)
  assert [run.step for run in runs] == [2, 2]
  assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def started(workdir=None, game=None, engine=None, **board):
  search = {'seed': 0, 'num_simulations': 2, 'num_parallel_leaves': 1}
  options = play.BoardOptions(**board)
  play.play(workdir, 'latest', options, game=game, engine=engine, resign=0.0, search=search)


def test_a_run_and_another_game_are_not_both_played(tmp_path):
  with pytest.raises(UserError, match=r'--game=tictactoe: the run in .* says which game'):
    started(str(tmp_path), 'tictactoe')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'game': 'x'}, r'--game=x: no such game; choose from go, tictactoe'),
    ({'game': 'go(size=99)'}, r"--game='go\(size=99\)': size 99: must be from 2 to 25"),
    ({'game': 'tictactoe', 'komi': 0.5}, r'--komi: has no effect on tictactoe'),
    ({'game': 'tictactoe', 'engine': 'random'}, r'--engine=random: has no effect'),
  ],
)
def test_an_error_names_the_option_that_was_typed(options, message):
  with pytest.raises(UserError, match=message):
    started(**options)


def test_the_game_begins_by_the_rules_of_the_networks():
  learnt = RuleSet(5, 14.5, 'situational', suicide=True)
  sizes = [range(2, 20), (5,)]
  assert play.BoardOptions().rules(sizes, [learnt]) == learnt
  assert play.BoardOptions().rules(sizes, [None]) == RuleSet(5)
  assert play.BoardOptions(komi=0.5, superko='simple').rules(sizes, [learnt, None]) == RuleSet(
    5, 0.5, 'simple', suicide=True
  )
  other = RuleSet(5, 7.5, 'situational', suicide=True)
  with pytest.raises(UserError, match=r'--komi: the networks were trained with 7.5 and 14.5; give'):
    play.BoardOptions().rules(sizes, [learnt, other])
  assert play.BoardOptions(komi=7.5).rules(sizes, [learnt, other]) == other


@pytest.mark.long
def test_a_network_says_its_komi_and_sees_as_many_boards_as_it_has_learnt(tmp_path, capsys):
  task = {**SMALL['task'], 'game': 'go(size=3, komi=14.5, max_moves=20, history=2)'}
  workdir = trained({**SMALL, 'task': task}, tmp_path / 'komi')
  engine = play.load_engine(workdir, num_simulations=2, num_parallel_leaves=1)
  assert engine.trained == RuleSet(3, 14.5)
  session = Session(engine, play.BoardOptions().rules([engine.sizes], [engine.trained]))
  assert answer(session, 'get_komi').text == '14.5' and answer(session, 'genmove b').success
  assert capsys.readouterr().err.count('trained') == 0
  assert answer(session, 'komi 7.5').success
  assert 'komi 7.5, not 14.5' in capsys.readouterr().err
