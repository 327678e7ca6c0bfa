"""Estimates the difference in strength from results: Elo with its interval, and the SPRT."""

import math
from typing import NamedTuple


class EloEstimate(NamedTuple):
  """Elo by which the first player is stronger.

  elo: the estimate, infinite if every point was won or lost.
  low, high: ends of the interval, perhaps infinite.
  """

  elo: float
  low: float
  high: float


class Test(NamedTuple):
  """The state of a sequential probability ratio test.

  ratio: the log-likelihood ratio of H1 to H0.
  low, high: bounds of the ratio, at which H0 and H1 are accepted.
  decision: 'H1' (by elo1 stronger), 'H0' (by elo0) or None while it goes on.
  """

  ratio: float
  low: float
  high: float
  decision: str | None


def expected(elo: float) -> float:
  """Returns the expected share of points of a player stronger by `elo`: 1 / (1 + 10^(-elo/400))."""
  return 1 / (1 + 10 ** (-elo / 400))


def difference(share: float) -> float:
  """Returns the inverse of `expected`: -400 log10(1 / share - 1), infinite at 0 and 1."""
  if not 0 < share < 1:
    return math.inf if share >= 1 else -math.inf
  return -400 * math.log10(1 / share - 1)


def estimate(wins: int, draws: int, losses: int, z: float = 1.96) -> EloEstimate:
  """Returns Elo of the share of points s, a draw being half a point, and its interval.

  The interval is Wilson's for a share of n games, carried over to Elo:
  (s + z^2 / 2n -+ z sqrt(s (1 - s) / n + z^2 / 4n^2)) / (1 + z^2 / n). It holds where nothing or
  all was won, too; with draws it is a little wide. Games of one opening count as independent.

  Args:
    wins: games won by the first player.
    draws: games drawn.
    losses: games lost by the first player.
    z: the normal quantile of the interval; 1.96 for 95 %.
  """
  n = wins + draws + losses
  if n == 0:
    return EloEstimate(0.0, -math.inf, math.inf)
  share = (wins + draws / 2) / n
  middle = share + z * z / (2 * n)
  reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
  low, high = ((middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1))
  low, high = (0.0 if share == 0 else low), (1.0 if share == 1 else high)
  return EloEstimate(difference(share), difference(low), difference(high))


def sprt(
  wins: int,
  draws: int,
  losses: int,
  elo0: float,
  elo1: float,
  alpha: float = 0.05,
  beta: float = 0.05,
) -> Test:
  """Returns Wald's sequential test of H0 (stronger by elo0) against H1 (stronger by elo1).

  The ratio is (W + D/2) log(p1 / p0) + (L + D/2) log((1 - p1) / (1 - p0)) with p = `expected`, a
  draw being half a win and half a loss; H1 is accepted at log((1 - beta) / alpha), H0 at
  log(beta / (1 - alpha)).

  Args:
    wins: games won by the first player so far.
    draws: games drawn.
    losses: games lost by the first player.
    elo0: of H0.
    elo1: of H1, above elo0.
    alpha: the chance to accept H1 where H0 holds, below 0.5.
    beta: the chance to accept H0 where H1 holds, below 0.5.

  Raises:
    ValueError: for values outside of these ranges.
  """
  if not (elo0 < elo1 and 0 < alpha < 0.5 and 0 < beta < 0.5):
    raise ValueError(f'sprt {elo0}, {elo1}, {alpha}, {beta}: elo0 < elo1, and chances below 0.5')
  p0, p1 = expected(elo0), expected(elo1)
  ratio = (wins + draws / 2) * math.log(p1 / p0)
  ratio += (losses + draws / 2) * math.log((1 - p1) / (1 - p0))
  low, high = math.log(beta / (1 - alpha)), math.log((1 - beta) / alpha)
  decision = 'H1' if ratio >= high else 'H0' if ratio <= low else None
  return Test(ratio, low, high, decision)
