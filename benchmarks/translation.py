"""The Transformer of 2017 on a CPU beside PyTorch, in turns: `python -m benchmarks.translation`.

Training: whole steps (forward, backward, Adam, float32, dropout 0.3, smoothed labels) of one batch,
ours as the loop runs them; a Transformer in PyTorch by hand, with fused attention and one product
for queries, keys and values (`torch`); and one of torch.nn's layers (`torch-nn`). Beam search: five
beams, as many pieces as the source has and no end before, by ours and by Hugging Face's `generate`
with a Marian of the same shape. Seconds are of the processor (`--clock=cpu`) or the wall's. A ratio
is of neighbouring bursts, theirs to ours in seconds a piece: median, and 10th to 90th percentile.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import turns
from train.runtime import host

TINY = {'vocab_size': 8000, 'layers': 4, 'heads': 4, 'width': 128, 'mlp_width': 256}
BASE = {'vocab_size': 8000, 'layers': 6, 'heads': 8, 'width': 512, 'mlp_width': 2048}
BEAMS = 5

# name: kind, shape, rows, length of both sides, positions whose logits ours computes at a time
CASES: dict[str, Any] = {
  'train-tiny-16': ('train', TINY, 128, 16, 4),
  'train-tiny-32': ('train', TINY, 64, 32, 4),
  'train-base-32': ('train', BASE, 16, 32, 0),
  'beam-tiny-16': ('beam', TINY, 64, 16, 0),
}
ENGINES = {'train': ('ours', 'torch', 'torch-nn'), 'beam': ('ours', 'huggingface')}
CLOCKS = {'cpu': time.process_time, 'wall': time.perf_counter}

Engine = tuple[turns.Burst, dict[str, Any]]  # what is timed, and what its process says of itself


def sentences(rows: int, length: int, vocab_size: int, seed: int, full: bool) -> np.ndarray:
  """Returns int32 [rows, length]: a half to all of a row is pieces, or all of it if `full`."""
  rng = np.random.default_rng(seed)
  pieces = rng.integers(3, vocab_size, (rows, length)).astype(np.int32)
  last = np.full(rows, length - 1) if full else rng.integers(length // 2, length, rows)
  pieces[np.arange(length) > last[:, None]] = 0
  pieces[np.arange(rows), last] = 2
  return pieces


def our_training(shape: Mapping[str, Any], source: Any, target: Any, chunk: int) -> Engine:
  """Returns a function of n training steps."""
  import jax

  from benchmarks import steps
  from data.text.parallel.source import ParallelMetadata
  from train.optim import make_optimizer
  from train.tasks.translation.task import Translation

  data: Any = ParallelMetadata(shape['vocab_size'])
  fields = {name: size for name, size in shape.items() if name != 'vocab_size'}
  task = Translation({'name': 'transformer', 'dropout': 0.3, **fields}, data, chunk=chunk)
  tx, schedule = make_optimizer('adam', steps=2000, learning_rate=1e-3, b2=0.98)
  rows = np.arange(len(source), dtype=np.int32)
  batch = {
    'source': source,
    'target': target,
    'index': rows,
    'mask': np.ones(len(rows), np.float32),
  }
  step, state, placed = steps.compile_step(task, tx, batch, schedule=schedule)
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  burst = steps.make_burst(step, state, placed)
  return burst, {'parameters': parameters, 'pieces': target.size}


def our_search(shape: Mapping[str, Any], source: Any) -> Engine:
  """Returns a function that translates the sources n times."""
  import jax

  import models
  from models.seq2seq import beam
  from models.transformer import unboxed

  model: Any = models.build('transformer', **shape)
  variables = unboxed(jax.jit(model.init)(jax.random.key(0), source[:1], source[:1]))
  search = beam.Beam(BEAMS, extra=0)

  def burst(calls):
    for _ in range(calls):
      found = beam.search(model, variables, source, search)
    if not (found.targets[:, 0] != 0).all():
      raise RuntimeError('a target ended early: the two engines did not write as much')

  parameters = sum(x.size for x in jax.tree.leaves(variables))
  return burst, {'parameters': parameters, 'pieces': source.size}


def make_burst(engine: str, case: str) -> Engine:
  """Returns what an engine's process serves; `case` is a key of CASES."""
  kind, shape, rows, length, chunk = CASES[case]
  source, target = (sentences(rows, length, shape['vocab_size'], i, kind == 'beam') for i in (0, 1))
  if engine == 'ours':
    return (
      our_training(shape, source, target, chunk) if kind == 'train' else our_search(shape, source)
    )
  from benchmarks import torch_translation as theirs

  if kind == 'train':
    burst, parameters, pieces = theirs.training(shape, source, target, library=engine == 'torch-nn')
  else:
    burst, parameters, pieces = theirs.hugging_face(shape, source, BEAMS, length)
  return burst, {'parameters': parameters, 'pieces': pieces}


def measure(
  case: str, rounds: int, seconds: float, names: Sequence[str], clock: str
) -> list[dict[str, Any]]:
  """Returns rows of the table; `ratio` is the engine's seconds a piece over ours."""
  workers = [turns.Worker(e, 'benchmarks.translation', ('--worker', e, case, clock)) for e in names]
  about = {worker.engine: worker.about for worker in workers}
  if len({(said['parameters'], said['pieces']) for said in about.values()}) > 1:
    raise RuntimeError(f'{case}: these are different networks: {about}')
  times, rows = turns.measure(workers, rounds, seconds), []
  for engine in names:
    call = statistics.median(times[engine])
    speed = {'call_ms': 1e3 * call, 'pieces_per_second': about[engine]['pieces'] / call}
    ratios = turns.ratios(times[engine], times['ours'])
    rows.append({'engine': engine, **speed, **ratios, **about[engine]})
  return rows


def show(case: str, clock: str, rows: Sequence[Mapping[str, Any]]) -> None:
  """Prints the table."""
  print(f'\n{case}, seconds of the {clock} clock')
  for row in rows:
    print(
      f'  {row["engine"]:12} {row["call_ms"]:10,.1f} ms {row["pieces_per_second"]:10,.1f} pieces/s'
      f' {turns.show(row):>20}',
      flush=True,
    )


def main() -> None:
  """Runs the command."""
  parser = turns.parser('benchmarks.translation', __doc__, rounds=9, seconds=1.0)
  parser.add_argument('--cases', default=','.join(CASES), help='some of %(default)s')
  parser.add_argument('--engines', help='some of them, ours included')
  parser.add_argument('--clock', default='wall', choices=CLOCKS)
  options = parser.parse_args()
  if options.worker:
    engine, case, clock = options.worker
    burst, about = make_burst(engine, case)
    return turns.serve(burst, CLOCKS[clock], **about)
  host.use_compilation_cache()
  results = {}
  for case in turns.words(parser, '--cases', options.cases, CASES):
    there = ENGINES[CASES[case][0]]
    names = turns.words(
      parser, '--engines', options.engines or ','.join(there), there, needs='ours'
    )
    results[case] = measure(case, options.rounds, options.seconds, names, options.clock)
    show(case, options.clock, results[case])
    turns.save(options.json, rounds=options.rounds, clock=options.clock, cases=results)


if __name__ == '__main__':
  main()
