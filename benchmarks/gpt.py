"""GPT on a CPU beside PyTorch, in one run with short turns: `python -m benchmarks.gpt`.

Training: whole steps (forward, backward, clipped AdamW, float32), ours as the loop runs them, and
the model of `benchmarks/torch_gpt.py` with nanoGPT's settings (`torch`), with AdamW fused, and with
scores that are held instead of fused attention. Generation: 200 tokens, by ours, by nanoGPT's
manner without a cache (`torch`, at two lengths that stand for all), and by Hugging Face's generate
with one. A ratio is of neighbouring bursts, theirs to ours in seconds a token: median, and 10th to
90th percentile.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import turns
from train.runtime import host

SMALL = {'vocab_size': 65, 'block_size': 64, 'layers': 4, 'heads': 4, 'width': 128}
MIDDLE = {'vocab_size': 65, 'block_size': 256, 'layers': 6, 'heads': 6, 'width': 384}
GPT2 = {'vocab_size': 50_257, 'block_size': 1024, 'layers': 12, 'heads': 12, 'width': 768}
COUNT = 200  # tokens to generate

# name: kind, shape, bias, batch, tokens of the prompt
CASES: dict[str, Any] = {
  'train-4x128': ('train', SMALL, False, 12, 0),
  'train-6x384': ('train', MIDDLE, False, 8, 0),
  'generate-6x384-1': ('generate', MIDDLE, True, 1, 1),
  'generate-6x384-8': ('generate', MIDDLE, True, 8, 1),
  'generate-124M-1': ('generate', GPT2, True, 1, 16),
  'generate-124M-8': ('generate', GPT2, True, 8, 16),
}
TOP_K = 200  # nanoGPT's; all of a smaller vocabulary

Shape = Mapping[str, Any]  # of a model
Engine = tuple[turns.Burst, dict[str, Any]]  # what is timed, and what its process says of itself
ENGINES = {
  'train': ('ours', 'ours-plain', 'torch', 'torch-fused', 'torch-fused-scores'),
  'generate': ('ours', 'torch', 'huggingface'),
}


# -------- our engines --------


def our_step(shape: Shape, bias: bool, batch: int) -> tuple[Any, Any, Any]:
  """Returns what `steps.compile_step` does, with nanoGPT's optimizer."""
  import numpy as np

  from benchmarks import steps
  from data.text.source import TextMetadata
  from train.optim import make_optimizer
  from train.tasks.language.task import Language

  fields = {name: shape[name] for name in ('block_size', 'layers', 'heads', 'width')}
  data: Any = TextMetadata(shape['vocab_size'], shape['block_size'])  # nothing else is asked for
  task = Language({'name': 'gpt', 'bias': bias, **fields}, data)
  tx, schedule = make_optimizer(
    'adamw',
    steps=2000,
    learning_rate=1e-3,
    schedule='cosine',
    warmup_steps=100,
    b2=0.99,
    weight_decay=0.1,
    clip_norm=1.0,
  )
  length, rng = shape['block_size'], np.random.default_rng(0)
  values = {
    'tokens': rng.integers(shape['vocab_size'], size=(batch, length + 1)).astype(np.int32),
    'index': np.arange(batch, dtype=np.int32),
    'mask': np.ones((batch, length), np.float32),
  }
  return steps.compile_step(task, tx, values, schedule=schedule)


def our_training(shape: Shape, bias: bool, batch: int) -> Engine:
  """Returns a function of n training steps."""
  import jax

  from benchmarks import steps

  start = time.perf_counter()
  step, state, data = our_step(shape, bias, batch)
  memory = step.memory_analysis()
  about = {
    'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
    'tokens': batch * shape['block_size'],
    'compile_seconds': time.perf_counter() - start,
    'temporary_mb': memory.temp_size_in_bytes / 1e6,
    'state_mb': sum(x.nbytes for x in jax.tree.leaves(state)) / 1e6,
    'aliased_mb': memory.alias_size_in_bytes / 1e6,
  }
  return steps.make_burst(step, state, data), about


def our_generation(shape: Shape, bias: bool, batch: int, prompt: int) -> Engine:
  """Returns a function that generates COUNT tokens n times."""
  import jax
  import jax.numpy as jnp

  from models.gpt import GPT, generation
  from models.transformer import unboxed

  model = GPT(**shape, bias=bias)

  @jax.jit
  def init(key):
    return unboxed(model.init(key, jnp.zeros((1, 2), jnp.int32)))

  variables = init(jax.random.key(0))
  prompts, sampling = [[0] * prompt] * batch, generation.Sampling(top_k=TOP_K)

  def write(seed, count):
    blocks = generation.generate(
      model, variables, prompts, jax.random.key(seed), max_tokens=count, sampling=sampling
    )
    return sum(block.shape[1] for block in blocks)

  def burst(calls):
    for seed in range(calls):
      write(seed, COUNT)

  jax.block_until_ready(variables)
  start = time.perf_counter()
  write(0, 1)
  first = time.perf_counter() - start
  parameters = sum(x.size for x in jax.tree.leaves(variables))
  about = {'parameters': parameters, 'tokens': batch * COUNT, 'first_token_seconds': first}
  return burst, about


def make_burst(engine: str, case: str) -> Engine:
  """Returns what an engine's process serves; `case` is a key of CASES."""
  kind, shape, bias, batch, prompt = CASES[case]
  if engine == 'ours':
    if kind == 'train':
      return our_training(shape, bias, batch)
    return our_generation(shape, bias, batch, prompt)
  if engine == 'ours-plain':
    from models import ops

    with ops.use('plain'):
      return our_training(shape, bias, batch)
  from benchmarks import torch_gpt

  top_k = min(TOP_K, shape['vocab_size'])
  if kind == 'train':
    options = {'fused': 'fused' in engine, 'flash': 'scores' not in engine}
    burst, parameters, tokens = torch_gpt.training({**shape, 'bias': bias}, batch, **options)
  else:
    write = torch_gpt.hugging_face if engine == 'huggingface' else torch_gpt.generation
    burst, parameters, tokens = write(shape, batch, prompt, COUNT, top_k)
  return burst, {'parameters': parameters, 'tokens': tokens}


# -------- turns --------


def engines(kind: str) -> list[str]:
  """Returns the engines of a kind of case whose libraries are installed."""
  installed = {name: turns.installed(name) for name in ('torch', 'transformers')}
  installed['huggingface'] = installed['torch'] and installed['transformers']
  return [name for name in ENGINES[kind] if installed.get(name.partition('-')[0], True)]


def measure(case: str, rounds: int, seconds: float, names: Sequence[str]) -> list[dict[str, Any]]:
  """Returns rows of the table; `ratio` is the engine's seconds a token over ours."""
  workers = [turns.Worker(e, 'benchmarks.gpt', ('--worker', e, case)) for e in names]
  about = {worker.engine: worker.about for worker in workers}
  if len({said['parameters'] for said in about.values()}) > 1:
    raise RuntimeError(f'{case}: these are different networks: {about}')
  times, rows = turns.measure(workers, rounds, seconds), []
  # A call of one engine may make more tokens than a call of another.
  each = {e: [t / about[e]['tokens'] for t in times[e]] for e in names}
  for engine in names:
    speed = {
      'call_ms': 1e3 * statistics.median(times[engine]),
      'tokens_per_second': 1 / statistics.median(each[engine]),
    }
    ratios = turns.ratios(each[engine], each['ours'])
    rows.append({'engine': engine, **speed, **ratios, **about[engine]})
  return rows


def show(case: str, rows: Sequence[Mapping[str, Any]]) -> None:
  """Prints the table."""
  print(f'\n{case}')
  for row in rows:
    extra = ''.join(
      f'  {name} {value:,.1f}' for name, value in row.items() if name.endswith(('_seconds', '_mb'))
    )
    print(
      f'  {row["engine"]:20} {row["call_ms"]:10,.1f} ms {row["tokens_per_second"]:10,.1f} tokens/s'
      f' {turns.show(row):>20}{extra}',
      flush=True,
    )


def main() -> None:
  """Runs the command."""
  parser = turns.parser('benchmarks.gpt', __doc__, rounds=9, seconds=1.0)
  parser.add_argument('--cases', default=','.join(CASES), help='some of %(default)s')
  parser.add_argument('--engines', help='some of them, ours included')
  options = parser.parse_args()
  if options.worker:
    burst, about = make_burst(*options.worker)
    return turns.serve(burst, **about)
  chosen = {}
  for case in turns.words(parser, '--cases', options.cases, CASES):
    there = engines(CASES[case][0])
    text = options.engines or ','.join(there)
    chosen[case] = turns.words(parser, f'--engines of {case}', text, there, needs='ours')
  host.use_compilation_cache()
  results = {}
  for case, names in chosen.items():
    results[case] = measure(case, options.rounds, options.seconds, names)
    show(case, results[case])
    turns.save(options.json, rounds=options.rounds, cases=results)


if __name__ == '__main__':
  main()
