"""Plays a match of Go and says who is stronger.

Games come in pairs: both of a pair begin with the same random opening, and the players change
colours. Two engines of ours play all games at once, in one batch on the device (`lockstep`); with a
GTP program one game is played after the other (`referee`).
"""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator

from mcts.engines import Engine, check_size
from mcts.match import elo, lockstep
from mcts.match.contestants import Contestant, distinct_names
from mcts.match.record import GameRecord
from mcts.match.referee import Referee
from mcts.match.result import MatchResult
from mcts.match.terms import MatchTerms

PROGRESS_INTERVAL = 10.0  # seconds between lines about games that are all played at once
SPRT_BATCH_SIZE = 64  # games between two looks at a sequential test


def match(
  first: Contestant,
  second: Contestant,
  terms: MatchTerms,
  *,
  num_games: int = 100,
  sprt: tuple[float, float] | None = None,
  batch_size: int | None = None,
  workdir: str | None = None,
  log: Callable[[str], None] = print,
) -> MatchResult:
  """Plays a match and returns its result.

  Args:
    first: player 0, whose strength is estimated relative to the second's.
    second: player 1.
    terms: of all games.
    num_games: rounded up to pairs.
    sprt: (elo0, elo1), to stop as soon as that sequential test of the first player's strength
      decides (`elo.sprt`).
    batch_size: games at once between two engines of ours; all by default, or 64 under `sprt`.
    workdir: where `match.json` and an SGF file of each game go.
    log: takes lines about progress, and the result.

  What was played is recorded however the match ends: each game when it is over, and `match.json`
  with the reason if not all of them are.

  Raises:
    NoAnswer: what an engine's network says is not finite.
    ValueError: for less than one game, a workdir with games of another match, or a board size that
      a contestant does not play on.
  """
  if num_games < 1:
    raise ValueError(f'games {num_games}: must be at least 1')
  records = [] if workdir is None else [*pathlib.Path(workdir).glob('*.sgf')]
  if workdir and (records or os.path.exists(os.path.join(workdir, 'match.json'))):
    raise ValueError(f'workdir {workdir}: holds the games of another match; give a new one')
  for contestant in (first, second):
    check_size(contestant.name, contestant.sizes, terms.rules.size)
  run = _Run((first, second), terms, -(-num_games // 2), workdir, log)
  return run.play(sprt, batch_size or (SPRT_BATCH_SIZE if sprt else 2 * run.num_pairs))


class _Run:
  """A match under way."""

  def __init__(self, contestants, terms, num_pairs, workdir, log):
    self.contestants: tuple[Contestant, Contestant] = contestants
    self.terms, self.num_pairs, self.workdir, self.log = terms, num_pairs, workdir, log
    self.names = distinct_names(contestants)
    self.games: list[GameRecord] = []
    self.start = self.last_progress = time.monotonic()

  def play(self, sprt: tuple[float, float] | None, batch_size: int) -> MatchResult:
    """Plays the games, and records the result even where an error ends them."""
    ended = ''
    try:
      self._play_rounds(sprt, batch_size)
    except BaseException as error:  # also of the keyboard
      ended = str(error) or type(error).__name__
      raise
    finally:
      result = dataclasses.replace(self._result(sprt), ended=ended)
      if self.workdir:
        _write(self.workdir, 'match.json', json.dumps(result.as_json(), indent=1) + '\n')
      self.log(result.summary())
    return result

  def _play_rounds(self, sprt, batch_size):
    """Plays rounds of pairs until all are played or the sequential test decides."""
    engines = self._engines()
    pairs_at_once = max(1, batch_size // 2) if engines else 1
    for start in range(0, self.num_pairs, pairs_at_once):
      # A last round of fewer games would be compiled anew, so it is filled up and cut.
      pairs = list(range(start, start + pairs_at_once))
      for game in self._play_round(engines, pairs):
        if game.number < 2 * self.num_pairs:
          self._add(game)
      result = self._result(sprt)
      if result.test and result.test.decision:
        break

  def _engines(self) -> tuple[Engine, Engine] | None:
    """Returns both engines, None if one of the contestants is a program."""
    first, second = (contestant.engine for contestant in self.contestants)
    return None if first is None or second is None else (first, second)

  def _play_round(
    self, engines: tuple[Engine, Engine] | None, pairs: list[int]
  ) -> Iterable[GameRecord]:
    if engines:
      return lockstep.play(engines, self.terms, pairs, self._log_progress)
    return self._play_one_by_one(pairs)

  def _play_one_by_one(self, pairs: list[int]) -> Iterator[GameRecord]:
    """Yields both games of each pair; programs are started anew for each round."""
    referee = Referee(self.contestants, self.names, self.terms)
    _, openings = lockstep.openings(self.terms, pairs)
    try:
      for p, pair in enumerate(pairs):
        for black in (0, 1):
          yield referee.play_game(2 * pair + black, black, openings[:, p].tolist())
    finally:
      for contestant, name in zip(self.contestants, self.names, strict=True):
        if said := contestant.close():
          self.log(f'{name} {said}')

  def _result(self, sprt):
    seconds = time.monotonic() - self.start
    result = MatchResult(self.names, self.terms, self.games, seconds)
    test = elo.sprt(*result.points(0), *sprt) if sprt else None
    return dataclasses.replace(result, test=test)

  def _log_progress(self, turn, going):
    if going and time.monotonic() - self.last_progress > PROGRESS_INTERVAL:
      self.last_progress = time.monotonic()
      self.log(f'turn {turn}: {going} games under way')

  def _add(self, game):
    self.games.append(game)
    if self.workdir:
      _write(self.workdir, f'{game.number:05}.sgf', game.to_sgf(self.names, self.terms))
    count, total = len(self.games), 2 * self.num_pairs
    black, white = self.names[game.black], self.names[1 - game.black]
    line = f'game {count} of {total}: {black} - {white} {game.result}, {len(game.moves)} moves'
    if not self._engines():  # the games of a batch end together
      each = (time.monotonic() - self.start) / count
      line += f', {each * (total - count):.0f} s left'
    self.log(line + (f' ({game.fault})' if game.fault else ''))


def _write(folder, name, text):
  os.makedirs(folder, exist_ok=True)
  with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
    file.write(text)
