"""The scaling law of language models, L(N, D) = E + A / N^alpha + B / D^beta, from runs of several
sizes and lengths (Hoffmann et al. 2022, arXiv 2203.15556, section 3.3: approach 3).

N counts parameters without embeddings, as Kaplan et al. 2020 (arXiv 2001.08361, section 2.1) do:
networks of different depths then lie on one curve, and a vocabulary that outweighs a small network
does not bend it. D counts the tokens trained on; L is in nats a token, at the end of a run whose
learning rate was scheduled for just that run.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np

from train.report import results
from train.report.figures import Html, Line, brief, chart, element, listing, section
from train.report.results import Folder

DELTA = 1e-3  # of the Huber loss on log L
LEAST = 6, 3, 3  # runs, sizes and budgets that five constants need
TRIED = 12  # of the grid of starts, the best that L-BFGS goes on from
GRID = {
  'a': (0, 5, 10, 15, 20, 25),
  'b': (0, 5, 10, 15, 20, 25),
  'e': (-1, -0.5, 0, 0.5, 1),
  'alpha': (0, 0.5, 1, 1.5, 2),
  'beta': (0, 0.5, 1, 1.5, 2),
}
BOUNDS = (-20, 60), (-20, 60), (-20, 5), (0, 4), (0, 4)


@dataclasses.dataclass(frozen=True)
class Point:
  """One run: parameters without embeddings, tokens trained on, nats a token at the end."""

  size: float
  tokens: float
  loss: float


@dataclasses.dataclass(frozen=True)
class Law:
  E: float
  A: float
  alpha: float
  B: float
  beta: float

  def __call__(self, size, tokens):
    return self.E + self.A / size**self.alpha + self.B / tokens**self.beta

  @property
  def exponent(self) -> float:
    """a of N ~ C^a, the best size for so much compute C = 6 N D (the paper's equation 4)."""
    total = self.alpha + self.beta
    return self.beta / total if total else math.nan


SAME = 'data.', 'task.', 'paper.metric'  # what runs of one law share, but for these two
BATCH = 'data.batch_size', 'data.eval_batch_size'


def points(folders: list[Folder], size_of: Callable[[dict], int | None]) -> list[Point]:
  """The finished language models among the runs, if all learn from the same text.

  size_of: a config's number of parameters without embeddings, None of another kind of network.
  """
  different = results.differences([run.config for run in folders])
  if any(key.startswith(SAME) and key not in BATCH for key in different):
    return []
  numbers = [(run, results.number([run])) for run in folders if finished(run)]
  losses = [(run, x.mean) for run, x in numbers if x.mean and x.metric.endswith('loss')]
  sized = [(run, size_of(run.config), loss) for run, loss in losses if len(losses) >= LEAST[1]]
  return [Point(float(size), float(tokens(run)), loss) for run, size, loss in sized if size]


def finished(run: Folder) -> bool:
  return run.step == (run.config.get('train') or {}).get('steps')


def tokens(run: Folder) -> int:
  """Those that the run was trained on, so far."""
  data = run.config['data']
  return run.step * data['batch_size'] * data['block_size']


# -------- the fit --------


def fit(points: list[Point]) -> Law:
  """The law with the least Huber loss between the logarithms of L and of `points`' losses."""
  x, y = _arrays(points)
  grid = np.array(list(itertools.product(*GRID.values())), float)  # [starts, 5]
  starts = grid[np.argsort([_misfit(start, x, y)[0] for start in grid])[:TRIED]]
  return _law(min((_descend(start, x, y) for start in starts), key=lambda found: found[0])[1])


def spread(points: list[Point], law: Law) -> Law:
  """The jackknife's standard error of each constant: of fits that leave out one run each."""
  start, n = _vector(law), len(points)
  without = [points[:i] + points[i + 1 :] for i in range(n)]
  fits = [dataclasses.astuple(_law(_descend(start, *_arrays(rest))[1])) for rest in without]
  return Law(*(np.std(fits, axis=0) * math.sqrt(n - 1)).tolist())


def _arrays(points: list[Point]) -> tuple[np.ndarray, np.ndarray]:
  """Logarithms of sizes and tokens, [2, n], and of losses, [n]."""
  logs = np.log([dataclasses.astuple(point) for point in points]).T
  return logs[:2], logs[2]


def _vector(law: Law) -> np.ndarray:
  """The five numbers that are fitted: log A, log B, log E, alpha, beta."""
  return np.array([*np.log([law.A, law.B, law.E]), law.alpha, law.beta])


def _law(vector: np.ndarray) -> Law:
  a, b, e, alpha, beta = vector.tolist()
  return Law(math.exp(e), math.exp(a), alpha, math.exp(b), beta)


def _misfit(vector: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
  """The Huber loss in units of DELTA squared, summed over the runs, and its gradient [5]."""
  a, b, e, alpha, beta = vector
  terms = np.stack([a - alpha * x[0], b - beta * x[1], np.full(len(y), e)])
  top = terms.max(0)
  shares = np.exp(terms - top)
  error = (top + np.log(shares.sum(0)) - y) / DELTA
  shares /= shares.sum(0)
  value = np.where(abs(error) < 1, error**2 / 2, abs(error) - 0.5).sum()
  slope = np.clip(error, -1, 1) / DELTA * shares
  of_exponents = -slope[0] @ x[0], -slope[1] @ x[1]
  return value, np.array([*slope.sum(1), *of_exponents])


def _descend(start: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
  from scipy.optimize import minimize  # not at the top: reports of other runs need no SciPy

  options = {'maxiter': 2000, 'maxfun': 5000, 'ftol': 1e-12, 'gtol': 1e-8}
  found = minimize(_misfit, start, (x, y), 'L-BFGS-B', jac=True, bounds=BOUNDS, options=options)
  return float(found.fun), found.x


# -------- its section of the report --------


def report(points: list[Point]) -> Html:
  """Losses over sizes, a line for each budget of tokens, with the law and its constants; or what is
  missing for a fit. Nothing for fewer than three runs of different sizes or lengths."""
  sizes, budgets = ({getattr(point, name) for point in points} for name in ('size', 'tokens'))
  if len({(point.size, point.tokens) for point in points}) < 3:
    return Html('')
  law = spreads = None
  enough = zip((points, sizes, budgets), LEAST, strict=True)
  if all(len(found) >= least for found, least in enough):
    law = fit(points)
    spreads = spread(points, law)
  lines = [
    line for i, tokens in enumerate(sorted(budgets)) for line in _lines(points, tokens, law, i)
  ]
  drawing = chart('Loss by N, a line for D tokens', lines, over='N', log_over=True)
  words = constants(law, spreads) if law and spreads else [few(points, sizes, budgets)]
  return section('Scaling law', element('div', drawing, element('div', *words), class_='charts'))


def _lines(points: list[Point], tokens: float, law: Law | None, colour: int) -> list[Line]:
  """What was measured with so many tokens, the mean of runs of one size, and the law there."""
  mine = [point for point in points if point.tokens == tokens]
  sizes = np.array(sorted({point.size for point in mine}))
  losses = [np.mean([point.loss for point in mine if point.size == size]) for size in sizes]
  found = [Line(f'{brief(tokens)} tokens', sizes, np.array(losses), colour, marks=True)]
  if law:
    every = [point.size for point in points]
    wide = np.geomspace(min(every), max(every), 50)
    found.append(Line('fit', wide, law(wide, tokens), colour, dashed=True, aside=True))
  return found


def constants(law: Law, errors: Law) -> list[Html]:
  """The law in words and numbers, each with its standard error."""
  rows = [
    (field.name, f'{getattr(law, field.name):.4g}', f'± {brief(getattr(errors, field.name))}')
    for field in dataclasses.fields(Law)
  ]
  alpha, beta, best = (element('sup', text) for text in ('alpha', 'beta', f'{law.exponent:.2f}'))
  meaning = (
    ' in nats a token, with N parameters without embeddings and D tokens of training (Hoffmann et'
    ' al. 2022, approach 3), is dashed. The spread is the jackknife’s standard error.'
  )
  formula = element('p', 'L(N, D) = E + A / N', alpha, ' + B / D', beta, meaning)
  growth = element('p', 'By it the best N for a compute C = 6 N D grows as C', best, '.')
  return [formula, listing(('Constant', 'Value', 'Spread'), rows, numeric=(1, 2)), growth]


def few(points: list[Point], sizes: set, budgets: set) -> Html:
  """What a fit would need."""
  runs, of_sizes, of_budgets = LEAST
  return element(
    'p',
    f'Too few for a fit of L(N, D): its five constants need {runs} runs of {of_sizes} sizes and'
    f' {of_budgets} budgets of tokens, and here are {len(points)} of {len(sizes)} and'
    f' {len(budgets)}.',
  )
