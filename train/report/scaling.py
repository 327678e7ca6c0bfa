"""Fits the scaling law of language models to runs of several sizes and lengths.

L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv 2203.15556, section 3.3, its
approach 3). N counts parameters without embeddings, as Kaplan et al. 2020 (arXiv 2001.08361,
section 2.1) do: networks of different depths then lie on one curve, and a vocabulary that outweighs
a small network does not bend it. D counts the tokens trained on; L is in nats a token, at the end
of a run whose learning rate was scheduled for just that run.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np

from train.report import numbers
from train.report.charts import Chart, Line, brief, chart
from train.report.folder import Folder

HUBER_DELTA = 1e-3  # of the Huber loss on log L, as in the paper
LEAST = 6, 3, 3  # runs, sizes and budgets that five constants need
NUM_STARTS = 12  # of GRID, the best that the fit goes on from
GRID = {
  'log A': (0, 5, 10, 15, 20, 25),
  'log B': (0, 5, 10, 15, 20, 25),
  'log E': (-1, -0.5, 0, 0.5, 1),
  'alpha': (0, 0.5, 1, 1.5, 2),
  'beta': (0, 0.5, 1, 1.5, 2),
}
BOUNDS = (-20, -20, -20, 0, 0), (60, 60, 5, 4, 4)
SHARED = 'data.', 'task.', 'paper.metric'  # what runs of one law agree on, but for these two
BATCH = 'data.batch_size', 'data.eval_batch_size'


@dataclasses.dataclass(frozen=True)
class Point:
  """One run: parameters without embeddings, tokens trained on, nats a token at the end."""

  size: float
  tokens: float
  loss: float


@dataclasses.dataclass(frozen=True)
class Law:
  """The five constants of L(N, D), or the standard error of each."""

  E: float
  A: float
  alpha: float
  B: float
  beta: float

  def __call__(self, size, tokens):
    return self.E + self.A / size**self.alpha + self.B / tokens**self.beta

  @property
  def exponent(self) -> float:
    """The exponent a of N ~ C^a, the best size for compute C = 6 N D (the paper's equation 4)."""
    total = self.alpha + self.beta
    return self.beta / total if total else math.nan


def points(folders: list[Folder], size_of: Callable[[dict], int | None]) -> list[Point]:
  """Returns the finished language models among the runs, none if they learn from different texts.

  Args:
    folders: The runs of a report.
    size_of: A config's number of parameters without embeddings, None of another kind of network.
  """
  different = numbers.differences([run.config for run in folders])
  if any(key.startswith(SHARED) and key not in BATCH for key in different):
    return []
  found = [(run, numbers.number([run])) for run in folders if _is_finished(run)]
  losses = [(run, x.mean) for run, x in found if x.mean and x.metric.endswith('loss')]
  losses = [(run, loss) for run, loss in losses if math.isfinite(loss) and loss > 0]
  if len(losses) < LEAST[1]:
    return []
  sized = [(size_of(run.config), _tokens(run), loss) for run, loss in losses]
  return [
    Point(float(size), float(tokens), loss) for size, tokens, loss in sized if size and tokens
  ]


def _is_finished(run: Folder) -> bool:
  return run.step == run.steps


def _tokens(run: Folder) -> int:
  """Returns the tokens trained on; 0 if the config does not say how many a batch has."""
  data = run.config.get('data') or {}
  return max(run.step * data.get('batch_size', 0) * data.get('block_size', 0), 0)


# -------- the fit --------


def fit(points: list[Point]) -> Law:
  """Returns the law with the least Huber loss between log L and the logarithms of the losses."""
  grid = np.array(list(itertools.product(*GRID.values())), float)  # [starts, 5]
  error = abs(_residuals(grid.T[..., None], points)) / HUBER_DELTA
  misfit = np.where(error < 1, error**2 / 2, error - 0.5).sum(1)
  found = [_descend(start, points) for start in grid[np.argsort(misfit)[:NUM_STARTS]]]
  return min(found, key=lambda fit: fit[0])[1]


def spread(points: list[Point], law: Law) -> Law:
  """Returns the jackknife's standard error of each constant, from fits without one run each."""
  start, n = np.array([*np.log([law.A, law.B, law.E]), law.alpha, law.beta]), len(points)
  fits = [_descend(start, points[:i] + points[i + 1 :])[1] for i in range(n)]
  return Law(*(np.std(list(map(dataclasses.astuple, fits)), axis=0) * math.sqrt(n - 1)).tolist())


def _terms(vector: np.ndarray, points: list[Point]) -> tuple[np.ndarray, ...]:
  """Returns the logarithms of the law's three terms; vector: log A, log B, log E, alpha, beta."""
  a, b, e, alpha, beta = vector
  log_n, log_d = np.log([(point.size, point.tokens) for point in points]).T
  return a - alpha * log_n, b - beta * log_d, e + 0 * log_n


def _residuals(vector: np.ndarray, points: list[Point]) -> np.ndarray:
  """Returns log L(N, D) less the logarithm of the measured loss, [..., runs]."""
  return np.logaddexp.reduce(_terms(vector, points)) - np.log([point.loss for point in points])


def _jacobian(vector: np.ndarray, points: list[Point]) -> np.ndarray:
  """Returns the derivatives of the residuals by the five numbers, [runs, 5]."""
  terms = _terms(vector, points)
  of_a, of_b, of_e = np.exp(terms - np.logaddexp.reduce(terms))  # each term's share of the loss
  log_n, log_d = np.log([(point.size, point.tokens) for point in points]).T
  return np.stack([of_a, of_b, of_e, -of_a * log_n, -of_b * log_d], axis=1)


def _descend(start: np.ndarray, points: list[Point]) -> tuple[float, Law]:
  """Returns the least Huber loss that is found from `start`, and its law."""
  from scipy.optimize import least_squares  # not at the top: reports of other runs need no SciPy

  huber = {'loss': 'huber', 'f_scale': HUBER_DELTA}
  close = {'ftol': 1e-12, 'xtol': 1e-12, 'gtol': 1e-12, 'max_nfev': 2000}
  found = least_squares(
    _residuals, start, _jacobian, BOUNDS, args=(points,), x_scale='jac', **huber, **close
  )
  a, b, e, alpha, beta = found.x.tolist()
  return found.cost, Law(math.exp(e), math.exp(a), alpha, math.exp(b), beta)


# -------- its section of the report --------


@dataclasses.dataclass(frozen=True)
class Section:
  """What the report shows: losses over sizes, the law or None, and rows (name, value, error).

  found and needed: runs, sizes and budgets of tokens.
  """

  chart: Chart
  law: Law | None
  constants: list[tuple[str, float, float]]
  found: tuple[int, int, int]
  needed: tuple[int, int, int] = LEAST


def report(points: list[Point]) -> Section | None:
  """Returns the section of the report; None for fewer than three runs of different N or D."""
  if len({(point.size, point.tokens) for point in points}) < 3:
    return None
  budgets = sorted({point.tokens for point in points})
  found = len(points), len({point.size for point in points}), len(budgets)
  law, constants = None, []
  if all(count >= least for count, least in zip(found, LEAST, strict=True)):
    law = fit(points)
    pairs = dataclasses.asdict(law).items(), dataclasses.astuple(spread(points, law))
    constants = [(name, value, error) for (name, value), error in zip(*pairs, strict=True)]
  lines = [line for i, tokens in enumerate(budgets) for line in _lines(points, tokens, law, i)]
  drawing = chart('Loss by N, a line for D tokens', lines, over='N', log_over=True)
  return Section(drawing, law, constants, found)


def _lines(points: list[Point], tokens: float, law: Law | None, colour: int) -> list[Line]:
  """Returns the losses after so many tokens, the mean of runs of one size, and the law there."""
  mine = [point for point in points if point.tokens == tokens]
  sizes = np.array(sorted({point.size for point in mine}))
  losses = [np.mean([point.loss for point in mine if point.size == size]) for size in sizes]
  found = [Line(f'{brief(tokens)} tokens', sizes, np.array(losses), colour, marks=True)]
  if law:
    every = [point.size for point in points]
    wide = np.geomspace(min(every), max(every), 50)
    found.append(Line(None, wide, law(wide, tokens), colour, dashed=True))
  return found
