"""Elo over a run's steps, from the shares of points that its matches have left in metrics.jsonl."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from train.report.folder import Curve, Folder

OWN = 'itself as it began'


def with_elo(run: Folder) -> Folder:
  """Returns the run with a curve 'NAME/elo' for each opponent NAME of its matches.

  Its past, an opponent that changes, has none: the curve of `OWN` adds the Elo over the past to
  that past's own. All or no points count as half a game less or more, since the Elo of such a match
  is infinite.
  """
  games = games_of(run.config.get('task') or {})
  shares = {name: curve for name, curve in run.curves.items() if name.endswith('/share')}
  if not games or not shares:
    return run
  curves = {name: curve for name, curve in run.curves.items() if not _replaced(name)}
  for name, (steps, values) in shares.items():
    if name != 'past/share':
      curves[name.replace('/share', '/elo')] = steps, elo(values, games)
  if {'past/share', 'past/step'} <= run.curves.keys():
    curves[f'{OWN}/elo'] = _summed(run.curves['past/share'], run.curves['past/step'], games)
  return dataclasses.replace(run, curves=curves)


def games_of(task: Mapping) -> int:
  """Returns the games of a match of an evaluation, by a config's section `task`; 0 if unknown."""
  pairs = (task.get('evaluation') or {}).get('num_games', 0)  # rounded up to pairs of games
  return max(task.get('match_games') or pairs + pairs % 2, 0)


def elo(shares: np.ndarray, games: int) -> np.ndarray:
  """Computes 400 log10(s / (1 - s)) of shares s [N] of the points of `games` games."""
  # `mcts.match.elo.difference` is the same for one share, but importing it starts JAX.
  shares = np.clip(shares, 0.5 / games, 1 - 0.5 / games)
  return 400 * np.log10(shares / (1 - shares))


def _replaced(name: str) -> bool:
  return name == 'past/step' or name.rpartition('/')[2].startswith('elo')


def _summed(shares: Curve, pasts: Curve, games: int) -> Curve:
  steps, of_share, of_past = np.intersect1d(shares[0], pasts[0], return_indices=True)
  known, total = [0.0], [0.0]
  gains = elo(shares[1][of_share], games)
  for step, past, more in zip(steps, pasts[1][of_past], gains, strict=True):
    total.append(np.interp(past, known, total) + more)
    known.append(float(step))
  return steps, np.array(total[1:])
