"""Matches of two Go players: engines of ours, checkpoints, or any programs that speak GTP.

Games come in pairs: both of a pair begin with the same random opening, and the players change
colours. Two engines of ours play all games at once, in one batch on the device; a program plays one
game after the other. A referee (`mcts.match.referee`) knows the rules: who plays an illegal move,
refuses a legal one, is silent, dies or runs out of time loses that game and is named.
"""

import dataclasses
import glob
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mcts import engines
from mcts.engines import Engine, clock
from mcts.engines.players import check_size
from mcts.go.notation import BLACK
from mcts.match import elo, lockstep, referee
from mcts.match.referee import Game, Terms

PLAYERS = 'name[:key=value,...] of an engine or a workdir, or the command line of a GTP program'
QUIET = 10.0  # s without a word about games that are all played at once


# -------- who plays --------


def player(spec: str | Engine, **options) -> Engine | str:
  """An engine from 'rollout', 'rollout:400' or 'rollout:simulations=400,seed=1'; else a command.

  options: for the engine, unless the text says otherwise. Raises ValueError for what is neither.
  """
  if not isinstance(spec, str):
    return spec
  name, _, text = spec.partition(':')
  if name not in engines.ENGINES:
    program = spec.split(maxsplit=1)[:1]
    if not program or not shutil.which(program[0].strip('"\'')):
      raise ValueError(f'player {spec!r}: give {PLAYERS}; engines: {", ".join(engines.ENGINES)}')
    return spec
  try:
    engine = engines.make(name, **{**options, **options_of(spec, text)})
  except TypeError as error:
    raise ValueError(f'player {spec!r}: {error}') from None
  engine.name = spec
  return engine


def options_of(spec: str, text: str) -> dict[str, float]:
  """What the text behind the colon of a player says: '400' or 'simulations=400,seed=1'."""
  options: dict[str, float] = {}
  for part in filter(None, text.split(',')):
    key, equals, value = part.partition('=')
    key, value = (key, value) if equals else ('simulations', key)
    try:
      options[key] = float(value) if '.' in value else int(value)
    except ValueError:
      raise ValueError(f'player {spec!r}: {part!r} must be key=number, or a number') from None
  return options


def names(players: Sequence[Engine | str]) -> tuple[str, str]:
  """What to call them, told apart."""
  first, second = (program_name(x) if isinstance(x, str) else x.name for x in players)
  return (first, second) if first != second else (f'{first} (1)', f'{second} (2)')


def program_name(command: str) -> str:
  """'gnugo' of '/usr/games/gnugo --mode gtp'."""
  return os.path.basename(command.split()[0])


# -------- one game after the other --------


def play_in_turn(players: Sequence[Engine | str], terms: Terms, pairs, done) -> list[Game]:
  """Both games of each pair; `done(game)` is told of each."""
  called, games = names(players), []
  seats = [referee.seat(spec, name, terms) for spec, name in zip(players, called, strict=True)]
  _, actions = lockstep.openings(terms, pairs)
  try:
    for p, pair in enumerate(pairs):
      for black in (0, 1):
        opening = [int(action) for action in actions[:, p]]
        games.append(referee.play_game(seats, black, 2 * pair + black, opening, terms))
        done(games[-1])
  finally:
    for seat in seats:
      seat.close()
  return games


# -------- the match --------


@dataclasses.dataclass(frozen=True)
class Match:
  """A match as it ended; `test` if one was asked for."""

  names: tuple[str, str]
  terms: Terms
  games: list[Game]
  seconds: float
  test: elo.Test | None = None

  def points(self, player: int) -> tuple[int, int, int]:
    """Wins, draws and losses of player 0 or 1."""
    won = sum(game.winner == player for game in self.games)
    drawn = sum(game.winner is None for game in self.games)
    return won, drawn, len(self.games) - won - drawn

  def wins(self, player: int, colour: int) -> tuple[int, int]:
    """How many games the player won of those played with the colour."""
    games = [game for game in self.games if (game.black == player) == (colour == BLACK)]
    return sum(game.winner == player for game in games), len(games)

  @property
  def estimate(self) -> elo.Estimate:
    return elo.estimate(*self.points(0))

  def text(self) -> str:
    """The result as a table of a few lines."""
    terms, width = self.terms, max(map(len, self.names))
    lines = [
      f'{len(self.games)} games, {terms.size}x{terms.size}, komi {terms.komi:g}, {terms.rules}'
    ]
    for player, name in enumerate(self.names):
      black, white = self.wins(player, 0), self.wins(player, 1)
      lines.append(
        f'{name:{width}}  won {self.points(player)[0]}:'
        f' {black[0]} of {black[1]} as black, {white[0]} of {white[1]} as white'
      )
    if self.points(0)[1]:
      lines.append(f'drawn {self.points(0)[1]}')
    guess = self.estimate
    lines.append(f'Elo {guess.elo:+.0f}, 95 % from {guess.low:+.0f} to {guess.high:+.0f}')
    if self.test:
      lines.append(
        f'SPRT ratio {self.test.ratio:+.2f} in {self.test.low:.2f} to {self.test.high:.2f}:'
        f' {self.test.decision or "no decision yet"}'
      )
    lines += [f'game {game.number}: {game.fault}' for game in self.games if game.fault]
    return '\n'.join(lines)


def match(
  first: str | Engine,
  second: str | Engine,
  *,
  games: int = 100,
  size: int = 9,
  komi: float = 7.5,
  superko: str = 'positional',
  suicide: bool = False,
  max_moves: int | None = None,
  opening: int | None = None,
  sprt: tuple[float, float] | None = None,
  batch: int | None = None,
  seed: int = 0,
  time: str = '',
  timeout: float = 60.0,
  tidy: bool = True,
  workdir: str | None = None,
  say: Callable[[str], None] = print,
  **options,
) -> Match:
  """Plays `games` (rounded up to pairs) and says who is stronger.

  first, second: engines, or what `player` takes; `options`, such as simulations, are for both.
  max_moves: a game's most turns, 2 N^2 unless told; it is then scored as it stands.
  opening: random moves that a game begins with, N / 3 unless told.
  sprt: (elo0, elo1), to stop as soon as that test of the first player's strength decides.
  batch: games at once, if both are ours: all unless told, or 64 under `sprt`.
  time: a clock for games with a program, as `clock.parse` reads it; timeout: seconds an answer.
  tidy: against a program our engine passes only when no dead stone is left to take.
  workdir: where `match.json` and one SGF file a game go; not one that holds those of another match.
  """
  if games < 1:
    raise ValueError(f'games {games}: must be at least 1')
  if workdir and glob.glob(os.path.join(glob.escape(workdir), '*.sgf')):
    raise ValueError(f'workdir {workdir}: holds the games of another match; give a new one')
  cap = 2 * size * size if max_moves is None else max_moves
  plies = size // 3 if opening is None else opening
  if not 0 <= plies < cap:
    raise ValueError(f'opening {plies}: must be from 0 to {cap - 1} moves')
  limit = clock.parse(time)
  terms = Terms(size, komi, superko, suicide, cap, plies, seed, limit, timeout, tidy)
  players = (player(first, **options), player(second, **options))
  for who in players:
    check_size(who, size)
  return _Play(players, terms, -(-games // 2), sprt, batch, workdir, say).run()


@dataclasses.dataclass
class _Play:
  """A match under way."""

  players: tuple[Engine | str, Engine | str]
  terms: Terms
  pairs: int
  sprt: tuple[float, float] | None
  batch: int | None
  workdir: str | None
  say: Callable[[str], None]

  def run(self) -> Match:
    self.names, self.games = names(self.players), []
    self.began = self.told = time.monotonic()
    ours = not any(isinstance(x, str) for x in self.players)
    at_once = max(1, (self.batch or (64 if self.sprt else 2 * self.pairs)) // 2) if ours else 1
    for start in range(0, self.pairs, at_once):
      # A last round of fewer games would be compiled anew, so it is filled up and cut.
      numbers = list(range(start, start + at_once))
      if ours:
        for game in lockstep.play(self.players, self.terms, numbers, self._tell):
          if game.number < 2 * self.pairs:
            self._done(game)
      else:
        play_in_turn(self.players, self.terms, numbers, self._done)
      match = self._match()
      if match.test and match.test.decision:
        break
    if self.workdir:
      _write(self.workdir, 'match.json', json.dumps(as_json(match), indent=1) + '\n')
    self.say(match.text())
    return match

  def _match(self):
    match = Match(self.names, self.terms, self.games, time.monotonic() - self.began)
    test = elo.sprt(*match.points(0), *self.sprt) if self.sprt else None
    return dataclasses.replace(match, test=test)

  def _tell(self, turn, living):
    if living and time.monotonic() - self.told > QUIET:
      self.told = time.monotonic()
      self.say(f'turn {turn}: {living} games under way')

  def _done(self, game):
    self.games.append(game)
    if self.workdir:
      _write(self.workdir, f'{game.number:05}.sgf', sgf(game, self.names, self.terms))
    count, total = len(self.games), 2 * self.pairs
    each = (time.monotonic() - self.began) / count
    one_by_one = any(isinstance(x, str) for x in self.players)  # else they end together
    left = f', {each * (total - count):.0f} s left' if one_by_one else ''
    black, white = self.names[game.black], self.names[1 - game.black]
    self.say(
      f'game {count} of {total}: {black} - {white} {game.result}, {len(game.moves)} moves'
      + left
      + (f' ({game.fault})' if game.fault else '')
    )


# -------- what is left behind --------


def as_json(match: Match) -> dict[str, Any]:
  guess = match.estimate
  return {
    'players': list(match.names),
    'terms': dataclasses.asdict(match.terms),
    'games': len(match.games),
    'points': [dict(zip(('won', 'drawn', 'lost'), match.points(i), strict=True)) for i in (0, 1)],
    'elo': {key: _finite(value) for key, value in guess._asdict().items()},
    'sprt': match.test._asdict() if match.test else None,
    'seconds': round(match.seconds, 2),
    'list': [{**dataclasses.asdict(game), 'moves': len(game.moves)} for game in match.games],
  }


def _finite(x):
  return round(x, 1) if np.isfinite(x) else str(x)


def _write(folder, name, text):
  os.makedirs(folder, exist_ok=True)
  with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
    file.write(text)


def sgf(game: Game, called: tuple[str, str], terms: Terms) -> str:
  """The game as SGF."""
  from mcts.go import sgf as sgf_lib

  record = sgf_lib.Record(
    size=terms.size,
    komi=terms.komi,
    moves=[(turn % 2, action) for turn, action in enumerate(game.moves)],
    result=game.result,
    names=(called[game.black], called[1 - game.black]),
    comments={len(game.moves): game.fault} if game.fault else {},
    tags={'RU': terms.rules},
  )
  return sgf_lib.write(record)
