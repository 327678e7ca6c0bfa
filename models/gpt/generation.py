"""Writes text with a language model: a compiled loop over its cache, a batch of prompts at once.

Many steps of the loop are one compiled call, which writes into the cache in place. Prompts of
unequal lengths end in the same slot of the cache (they are padded on the left); the slots before a
shorter one are never attended to. The prefill leaves out the last token of each prompt: the first
step of the loop reads it, so that no logits are computed but those that are sampled from.

The window. A token is predicted from at most `block_size` tokens. Positions are part of what the
cache holds, so a full cache cannot be shifted: the later half of its tokens, the newest among them,
is prefilled again and the loop goes on. Of a prompt longer than the block only the end counts. The
window of each sequence slides when it is full itself, in a batch as alone.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import forms, ops
from models.gpt.language_model import LanguageModel
from models.gpt.sampling import Filters, Sampling, sample_tokens

DEFAULT_SAMPLING = Sampling()
NO_TOKEN = -1  # stands behind a sequence's stop
NOT_FINITE = -2  # stands where logits had no finite largest one
SMALLEST_PREFILL = 16  # tokens; the sizes that are compiled for double from here on
SMALLEST_CACHE = 256  # slots; these double too, up to the model's block


class NotFiniteError(ValueError):
  """The network's logits are not numbers that a token can be drawn by."""


# -------- the compiled parts --------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GenerationState:
  """The state of B sequences that are being written.

  Attributes:
    token: int32 `[B]`, the newest of each, which the cache does not hold yet.
    count: int32 `[]`, tokens made so far; with a sequence's key it gives the next one's key.
    done: bool `[B]`, whether a stop token was made.
    seen: bool `[B, V]`, the tokens of each sequence, prompt included; None without a repetition
      penalty.
  """

  token: Array
  count: Array
  done: Array
  seen: Array | None


@functools.partial(jax.jit, static_argnames=('model', 'slots', 'form'))
def _prefill(model, variables, tokens, lengths, end, *, slots: int, form: str):
  """Returns a cache of `slots` that holds the rows of int32 `[B, P]`, all ending at column `end`.

  Row b begins at column `end - lengths[b]`. What stands behind `end` only fills up the bucket: it
  goes into slots that the next tokens take. The logits are not used, and hence not computed.

  form: the formulation. The cache's layout depends on it, which jit would not see otherwise.
  """
  cache = model.init_cache(tokens.shape[0], slots)
  # Known before the tokens are read: positions are counted from each row's start.
  cache = dataclasses.replace(cache, start=end - lengths)
  # That moves `end` to the bucket's; it goes back to the last real column.
  _, cache = model.apply(variables, tokens, cache, method='decode')
  return model.decoding_cache(dataclasses.replace(cache, end=end))


@functools.partial(
  jax.jit, static_argnames=('model', 'filters', 'chunk'), donate_argnames=('cache', 'state')
)
def _run(model, variables, cache, state, keys, stops, numbers, limit, *, filters, chunk: int):
  """Makes `limit` <= chunk tokens of each sequence, or fewer: until all are done.

  Returns:
    The cache, the state, int32 `[B, chunk]` the tokens, int32 `[]` how many columns of it are made.
  """

  def going(carry):
    _, state, _, made = carry
    # `limit` is traced: the last, shorter chunk needs no program of its own.
    return (made < limit) & ~state.done.all()

  def step(carry):
    cache, state, out, made = carry
    logits, cache = model.apply(variables, state.token[:, None], cache, method='decode')
    # By the token's number, so that chunks and a window that slides change no draw.
    now = jax.vmap(jax.random.fold_in, (0, None))(keys, state.count)
    logits = logits[:, 0].astype(jnp.float32)
    token = sample_tokens(logits, now, filters, numbers, state.seen)
    # A network may rule out tokens by -inf, but not all of them.
    token = jnp.where(ops.has_largest(logits), token, NOT_FINITE)
    # Sequences that are done go on in the batch, unseen: a lane cannot be taken out.
    written = jnp.where(state.done, NO_TOKEN, token)
    out = lax.dynamic_update_slice(out, written[:, None], (0, made))
    return cache, _after(state, token, stops), out, made + 1

  out = jnp.full((keys.shape[0], chunk), NO_TOKEN, jnp.int32)
  return lax.while_loop(going, step, (cache, state, out, jnp.int32(0)))


def _after(state: GenerationState, token: Array, stops: Array) -> GenerationState:
  done = state.done | (token[:, None] == stops[None, :]).any(-1)
  seen = state.seen
  if seen is not None:
    seen = seen.at[jnp.arange(token.shape[0]), token].set(True)
  return GenerationState(token, state.count + 1, done, seen)


# -------- the stream --------


def generate(
  model: LanguageModel,
  variables: Any,
  prompts: Sequence[Sequence[int]],
  key: Array,
  *,
  max_tokens: int,
  sampling: Sampling = DEFAULT_SAMPLING,
  stop_ids: Sequence[int] = (),
  chunk: int = 16,
) -> Iterator[np.ndarray]:
  """Continues each of B prompts, and yields blocks int32 `[B, n]` of new tokens as they are made.

  Compiled once for a batch size, a chunk, the filters of `sampling` that are on, a prefill (16, 32,
  64, ... tokens) and a cache (256, 512, ... slots for prompt and new tokens, the block at most).

  Args:
    model: a hashable module, such as GPT.
    variables: its variables.
    prompts: token ids of each prompt, one or more.
    key: one, from which sequence b takes `fold_in(key, b)`; or B of them, a sequence's own each.
      With the same key a prompt goes on in the same way in any batch, and for any chunk.
    max_tokens: how many new tokens a sequence gets at most.
    sampling: how a token is chosen.
    stop_ids: tokens that end a sequence, which holds them; -1 follows while others go on.
    chunk: tokens that are made in one compiled call, the largest n.

  Raises:
    ValueError: there is no prompt, one is empty or holds ids outside the vocabulary, the key is not
      of `jax.random.key`, or a number is below 1.
    NotFiniteError: logits are not finite; raised while blocks are taken.
  """
  _check(model, prompts, key, max_tokens, stop_ids, chunk)
  if key.ndim == 0:
    key = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(prompts)))
  prompts = [[int(token) for token in prompt] for prompt in prompts]
  stops = np.asarray(stop_ids, np.int32)
  return _stream(model, variables, prompts, key, max_tokens, sampling, stops, chunk)


def trace(
  model: LanguageModel, variables: Any, batch: int, *, sampling: Sampling = DEFAULT_SAMPLING
) -> dict[str, Any]:
  """Traces what writes `batch` texts in a full window, from abstract variables; nothing runs.

  Returns:
    'prefill', which reads half a block, and 'write', which makes 16 tokens of each text.
  """

  def ints(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.int32)

  slots, filters = model.block_size, sampling.filters
  read = ints(batch, max(slots // 2, 1)), ints(batch), ints()
  form = forms.formulation()
  prefill = functools.partial(_prefill, model, slots=slots, form=form)
  seen: Any = jax.ShapeDtypeStruct((batch, model.vocab_size), bool)
  done: Any = jax.ShapeDtypeStruct((batch,), bool)
  state = GenerationState(
    ints(batch),
    ints(),
    done,
    seen if filters.repetition_penalty else None,
  )
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
  write = _run.trace(
    model,
    jax.eval_shape(model.decoding_variables, variables),
    jax.eval_shape(prefill, variables, *read),
    state,
    keys,
    ints(0),
    sampling.numbers,
    ints(),
    filters=filters,
    chunk=16,
  )
  first = _prefill.trace(model, variables, *read, slots=slots, form=form)
  return {'prefill': first, 'write': write}


def _stream(model, variables, prompts, keys, max_tokens, sampling, stops, chunk):
  filters, numbers = sampling.filters, sampling.numbers
  # On the host: a window that slides is prefilled again from its tokens.
  windows = [prompt[-model.block_size :] for prompt in prompts]
  # Less one, since the last token is never read.
  slots = _bucket(max(map(len, windows)) + max_tokens - 1, SMALLEST_CACHE, model.block_size)
  state = _start(model, prompts, filters)
  decoding = model.decoding_variables(variables)
  room = 0  # free slots of the cache
  while max_tokens > 0:
    if room == 0:
      cache = None  # its memory is free before the next one is made
      windows = [_slide(window, model.block_size) for window in windows]
      cache, room = _read_windows(model, variables, windows, slots)
      state = _beside(state, cache.end)
    limit = np.int32(min(chunk, max_tokens, room))
    cache, state, out, made = _run(
      model, decoding, cache, state, keys, stops, numbers, limit, filters=filters, chunk=chunk
    )
    # The one place where the host waits, once a chunk.
    out, made, done = jax.device_get((out, made, state.done))
    if (out == NOT_FINITE).any():
      row = int(np.argwhere(out == NOT_FINITE)[0][0])
      raise NotFiniteError(f'the network gives text {row + 1} logits that are not finite')
    yield out[:, :made]
    if done.all():
      return
    max_tokens, room = max_tokens - made, room - made
    windows = [[*window, *row] for window, row in zip(windows, out[:, :made].tolist(), strict=True)]


def _start(
  model: LanguageModel, prompts: Sequence[Sequence[int]], filters: Filters
) -> GenerationState:
  seen = None
  if filters.repetition_penalty:
    seen = np.zeros((len(prompts), model.vocab_size), bool)
    for row, prompt in zip(seen, prompts, strict=True):
      row[prompt] = True  # the whole prompt, also what slid out of the window
  last = np.asarray([prompt[-1] for prompt in prompts], np.int32)
  state: Any = last, np.int32(0), np.zeros(len(prompts), bool), seen
  return GenerationState(*jax.device_put(state))


@jax.jit
def _beside(state: GenerationState, end: Array) -> GenerationState:
  """Returns the state, placed as the cache is: `_run` compiles anew for what was put elsewhere."""
  return dataclasses.replace(state, count=state.count + 0 * end)


def _slide(window: list[int], block_size: int) -> list[int]:
  """Returns the tokens that predict the next one: all, or the later half of a full window."""
  # With half of the block kept there is one prefill in block_size / 2 tokens; with all but one
  # kept, there would be one for each token.
  if window[-1] == NO_TOKEN:
    return window[-1:]  # a sequence that is done takes no room
  return window if len(window) <= block_size else window[-max(block_size // 2, 1) :]


def _read_windows(model, variables, windows, slots: int):
  """Returns a cache of all tokens of the windows but their last, and the number of free slots."""
  lengths = np.asarray([len(window) - 1 for window in windows], np.int32)
  end = lengths.max()
  size = _bucket(end, SMALLEST_PREFILL, slots)
  tokens = np.zeros((len(windows), size), np.int32)
  for row, window, length in zip(tokens, windows, lengths, strict=True):
    row[end - length : end] = window[:-1]  # all end in one column, so one slot is next for all
  form = forms.formulation()
  cache = _prefill(model, variables, tokens, lengths, end, slots=slots, form=form)
  return cache, slots - int(end)


def _bucket(number: int, smallest: int, largest: int) -> int:
  """Returns the first of smallest, 2 smallest, 4 smallest, ... >= `number`; `largest` at most."""
  size = smallest
  while size < number:
    size *= 2
  return min(size, largest)  # few sizes, so few programs


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
