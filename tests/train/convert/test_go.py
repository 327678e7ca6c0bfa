"""Leela Zero's networks as run folders that play, and runs' networks for leelaz."""

import jax
import numpy as np
import pytest

import models
from mcts.engines import RuleSet
from mcts.go import Go
from mcts.match import arena
from mcts.match.contestants import EngineContestant, from_spec
from mcts.match.terms import MatchTerms
from models.weights import leelaz
from tests.mcts.gtp.gtp_talk import talk
from tests.models.weights import leela_networks
from tests.models.weights.test_leelaz import LEELAZ, needs_leelaz
from train import convert, play, verbs
from train.convert import go
from train.errors import UserError

pytestmark = pytest.mark.usefixtures('one_device')


@pytest.fixture
def workdir(tmp_path):
  path, _ = leela_networks.written(tmp_path / 'net.gz', size=5)
  convert.import_weights(str(path), str(tmp_path / 'run'))
  return str(tmp_path / 'run')


def test_an_imported_network_is_a_run(workdir, tmp_path, capsys):
  run = verbs.load_run(workdir)
  model, _, variables = leelaz.from_leelaz(tmp_path / 'net.gz')
  assert run.task.model == model and run.task.game.size == 5
  assert RuleSet.of(run.task.game) == RuleSet(5)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(run.variables), variables)
  convert.export_leelaz(workdir, str(tmp_path / 'out' / 'net.txt'))
  said = capsys.readouterr().out
  assert 'is for 5 x 5; leelaz plays it if it was compiled with that BOARD_SIZE' in said
  again = leelaz.read(tmp_path / 'out' / 'net.txt')[2]
  for ours, theirs in zip(again, leelaz.read(tmp_path / 'net.gz')[2], strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.long
def test_an_imported_network_plays_by_gtp(workdir):
  engine = play.load_engine(workdir, num_simulations=8)
  assert talk('genmove b', engine=engine)[0].startswith('= ')


def test_what_a_file_loses_is_said():
  model = models.build('policy_value', num_actions=362, ownership=True)
  assert go.left_out(Go(19), model) == ['the format has no heads of ownership; they are left out']
  assert go.left_out(Go(19), model.clone(ownership=False)) == []


def test_what_cannot_be_written_is_said_in_one_line(workdir, tmp_path):
  (tmp_path / 'there').touch()
  with pytest.raises(UserError, match=r'there: exists already; give a new file'):
    convert.export_leelaz(workdir, str(tmp_path / 'there'))
  with pytest.raises(UserError, match=r'no config.json there'):
    convert.export_leelaz(str(tmp_path / 'nowhere'), str(tmp_path / 'net'))
  with pytest.raises(UserError, match=r'only language models are exported'):
    convert.export_hf(workdir, str(tmp_path / 'hf'))
  assert not (tmp_path / 'net').exists()


def test_a_foreign_text_file_is_refused(tmp_path):
  (tmp_path / 'net.txt').write_text('hello\n1 2 3\n')
  with pytest.raises(UserError, match=r'net.txt: ') as error:
    convert.import_weights(str(tmp_path / 'net.txt'), str(tmp_path / 'run'))
  assert '\n' not in str(error.value) and not (tmp_path / 'run').exists()
  with pytest.raises(UserError, match=r'line 1: .* a network of Leela Zero begins with 1 or 2'):
    convert.import_weights(str(tmp_path / 'net.txt'), str(tmp_path / 'run'), 'leelaz')


@pytest.mark.slow
@needs_leelaz
def test_leelaz_plays_our_network_against_it(tmp_path):
  """A legal game each way, between our search and leelaz's, of one network."""
  model = models.build('policy_value', num_actions=362, blocks=1, channels=4)
  variables = model.init(jax.random.key(0), np.zeros((1, 19, 19, 17), np.float32))
  version, arrays = leelaz.to_leelaz(model, 19, variables)
  leelaz.write(tmp_path / 'net.gz', arrays, version)
  convert.import_weights(str(tmp_path / 'net.gz'), str(tmp_path / 'run'))
  ours = EngineContestant(play.load_engine(str(tmp_path / 'run'), num_simulations=2))
  theirs = from_spec(f'{LEELAZ} -g --cpu-only --noponder -v 2 -t 1 -w {tmp_path / "net.gz"}')
  result = arena.match(ours, theirs, MatchTerms(RuleSet(19)), num_games=2)
  assert [game.fault for game in result.games] == ['', ''] and not result.ended
