"""Text from a language model: a compiled loop over its key-value cache, a batch of prompts at once.

A loop of many steps is one compiled call, which writes into the cache in place. Prompts of unequal
lengths end in the same slot of the cache; the slots before a shorter one are never attended to. The
last token of each is left out of the prefill: it is what the first step of the loop reads, so that
no logits are computed but those that are sampled from.

The window. A token is predicted from at most `block_size` tokens. Positions are part of what the
cache holds, so a full cache cannot be shifted: the later half of its tokens, the newest among them,
is read anew and the loop goes on. A prompt longer than the block counts with its end. Each sequence
slides for itself, when its own window is full, in company as alone.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.cpu import decode as cpu_decode
from models.gpt import model as model_lib
from models.gpt.sampling import Rules, Sampling, choose

PLAIN = Sampling()
NOTHING = -1  # in place of tokens, behind a sequence's stop
SMALLEST_PREFILL = 16  # tokens; the sizes that are compiled for double from here on
SMALLEST_CACHE = 256  # slots; likewise, up to the model's block


# -------- the compiled parts --------


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=['token', 'count', 'done', 'seen'], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class State:
  """Where B sequences stand.

  token: int32 `[B]`, the newest, which the cache does not hold yet.
  count: int32 `[]`, tokens made so far; with a sequence's key it gives the next one's.
  done: bool `[B]`, whether a stop was made.
  seen: bool `[B, V]`, the tokens of each sequence, prompt included; None where no rule asks.
  """

  token: Array
  count: Array
  done: Array
  seen: Array | None


@functools.partial(jax.jit, static_argnames=('model', 'slots', 'by_layer'))
def _prefill(model, variables, tokens, lengths, end, *, slots: int, by_layer: bool):
  """A cache of `slots` that holds the rows of int32 `[B, P]`, which all end before column `end`.

  Row b begins at column `end - lengths[b]`. What stands behind `end` only fills up the bucket: it
  goes into slots that the next tokens take. The logits are not used, and hence not computed.
  """
  cache = model_lib.init_cache(model, tokens.shape[0], slots)
  cache = dataclasses.replace(cache, start=end - lengths)
  _, cache = model.apply(variables, tokens, cache, method='decode')
  cache = dataclasses.replace(cache, end=end)
  return cpu_decode.by_layer(cache) if by_layer else cache


def _step(model, weights, token, cache):
  """float32 logits `[B, V]` of a new token each, and the cache with it."""
  if isinstance(cache, cpu_decode.LayerCache):
    return cpu_decode.step(model, weights, token, cache)
  logits, cache = model.apply(weights, token[:, None], cache, method='decode')
  return logits[:, 0].astype(jnp.float32), cache


@functools.partial(
  jax.jit, static_argnames=('model', 'rules', 'chunk'), donate_argnames=('cache', 'state')
)
def _run(model, weights, cache, state, keys, stops, numbers, limit, *, rules, chunk: int):
  """Makes `limit` <= chunk tokens of each sequence, or fewer: until all are done.

  Returns the cache, the state, int32 `[B, chunk]` the tokens, int32 `[]` how many columns of it.
  """

  def going(carry):
    _, state, _, made = carry
    return (made < limit) & ~state.done.all()

  def step(carry):
    cache, state, out, made = carry
    logits, cache = _step(model, weights, state.token, cache)
    now = jax.vmap(jax.random.fold_in, (0, None))(keys, state.count)
    token = choose(logits, now, rules, numbers, state.seen)
    written = jnp.where(state.done, NOTHING, token)
    out = lax.dynamic_update_slice(out, written[:, None], (0, made))
    return cache, _after(state, token, stops), out, made + 1

  out = jnp.full((keys.shape[0], chunk), NOTHING, jnp.int32)
  return lax.while_loop(going, step, (cache, state, out, jnp.int32(0)))


def _after(state: State, token, stops) -> State:
  done = state.done | (token[:, None] == stops[None, :]).any(-1)
  seen = state.seen
  if seen is not None:
    seen = seen.at[jnp.arange(token.shape[0]), token].set(True)
  return State(token, state.count + 1, done, seen)


# -------- the stream --------


def generate(
  model: nn.Module,
  variables: Any,
  prompts: Sequence[Sequence[int]],
  key: Array,
  *,
  max_tokens: int,
  sampling: Sampling = PLAIN,
  stop_ids: Sequence[int] = (),
  chunk: int = 16,
) -> Iterator[np.ndarray]:
  """Continues each of B prompts by up to `max_tokens`: blocks int32 `[B, n]`, n <= chunk, as made.

  A sequence that made one of `stop_ids` ends with it; -1 follows, while others go on.

  key: one, from which sequence b takes `fold_in(key, b)`; or B of them, a sequence's own each. With
    the same key a prompt goes on in the same way in any batch, and for any chunk.

  Compiled once for a batch size, a chunk, the rules of `sampling` that are on, a prefill (16, 32,
  64, ... tokens) and a cache (256, 512, ... slots for prompt and new tokens, the block at most).

  Raises ValueError for no prompts, an empty prompt, ids outside the vocabulary, and bad numbers.
  """
  _check(model, prompts, key, max_tokens, stop_ids, chunk)
  if key.ndim == 0:
    key = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(prompts)))
  prompts = [[int(token) for token in prompt] for prompt in prompts]
  stops = np.asarray(stop_ids, np.int32)
  return _stream(model, variables, prompts, key, max_tokens, sampling, stops, chunk)


def _stream(model, variables, prompts, keys, max_tokens, sampling, stops, chunk):
  rules, numbers = sampling.rules, sampling.numbers
  windows = [prompt[-model.block_size :] for prompt in prompts]
  slots = _bucket(max(map(len, windows)) + max_tokens - 1, SMALLEST_CACHE, model.block_size)
  state = _start(model, prompts, rules)
  weights = cpu_decode.prepare(model, variables) if cpu_decode.takes(model) else variables
  room = 0  # slots of the cache that are free
  while max_tokens > 0:
    if room == 0:
      cache = None  # let go of before the next one is made
      windows = [_slide(window, model.block_size) for window in windows]
      cache, room = _read(model, variables, windows, slots)
      state = _beside(state, cache.end)
    limit = np.int32(min(chunk, max_tokens, room))
    cache, state, out, made = _run(
      model, weights, cache, state, keys, stops, numbers, limit, rules=rules, chunk=chunk
    )
    out, made, done = jax.device_get((out, made, state.done))
    yield out[:, :made]
    if done.all():
      return
    max_tokens, room = max_tokens - made, room - made
    windows = [[*window, *row] for window, row in zip(windows, out[:, :made].tolist(), strict=True)]


def _start(model, prompts, rules: Rules) -> State:
  seen = None
  if rules.repetition:
    seen = np.zeros((len(prompts), model.vocab_size), bool)
    for row, prompt in zip(seen, prompts, strict=True):
      row[prompt] = True
  last = np.asarray([prompt[-1] for prompt in prompts], np.int32)
  return jax.device_put(State(last, np.int32(0), np.zeros(len(prompts), bool), seen))


@jax.jit
def _beside(state: State, end: Array) -> State:
  """The state, placed as the cache is, since `_run` compiles anew for what was put elsewhere."""
  return dataclasses.replace(state, count=state.count + 0 * end)


def _slide(window: list[int], block_size: int) -> list[int]:
  """The tokens that the next one is predicted from: all, or the later half of a full window."""
  if window[-1] == NOTHING:
    return window[-1:]  # a sequence that is done takes no room
  return window if len(window) <= block_size else window[-max(block_size // 2, 1) :]


def _read(model, variables, windows, slots: int):
  """A cache of all tokens of the windows but their last, and the number of its free slots."""
  lengths = np.asarray([len(window) - 1 for window in windows], np.int32)
  end = lengths.max()
  size = _bucket(end, SMALLEST_PREFILL, slots)
  tokens = np.zeros((len(windows), size), np.int32)
  for row, window, length in zip(tokens, windows, lengths, strict=True):
    row[end - length : end] = window[:-1]
  by_layer = cpu_decode.takes(model)
  cache = _prefill(model, variables, tokens, lengths, end, slots=slots, by_layer=by_layer)
  return cache, slots - int(end)


def _bucket(number: int, smallest: int, largest: int) -> int:
  """The first of smallest, 2 smallest, 4 smallest, ... not below `number`; `largest` at most."""
  size = smallest
  while size < number:
    size *= 2
  return min(size, largest)


def _check(model, prompts, key, max_tokens, stop_ids, chunk) -> None:
  if not prompts:
    raise ValueError('prompts=[]: give at least one')
  for i, prompt in enumerate(prompts):
    if not len(prompt):
      raise ValueError(
        f'prompts[{i}] is empty: a prompt has at least one token, such as the end of text'
      )
  for name, ids in (*((f'prompts[{i}]', p) for i, p in enumerate(prompts)), ('stop_ids', stop_ids)):
    if bad := [token for token in ids if not 0 <= token < model.vocab_size]:
      raise ValueError(f'{name} holds {bad[0]}: ids are from 0 to {model.vocab_size - 1}')
  for name, value in (('max_tokens', max_tokens), ('chunk', chunk)):
    if value < 1:
      raise ValueError(f'{name}={value}: must be at least 1')
  typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  if not typed or key.shape not in ((), (len(prompts),)):
    kind = f'{key.dtype}{list(key.shape)}'
    raise ValueError(f'key {kind}: give one of jax.random.key, or one for each prompt')
