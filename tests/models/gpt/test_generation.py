"""Generation: the compiled loop against plain decoding, whatever the prompts and the rules."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import forms
from models.gpt import GPT, Cache, UncachedLanguageModel
from models.gpt import generation as lib
from models.gpt.generation import generate
from models.gpt.sampling import Sampling

GREEDY = Sampling(temperature=0.0)


class Tiny(UncachedLanguageModel):
  """A causal network of one layer: each token's logits depend on all before it and their places."""

  vocab_size: int = 13
  block_size: int = 32
  width: int = 8

  def init_cache(self, batch, length):
    keys = jnp.zeros((1, batch, length, 1, self.width))
    return Cache(keys, keys, jnp.zeros(batch, jnp.int32), jnp.int32(0))

  @nn.compact
  def decode(self, tokens, cache):
    embed = self.param('embed', nn.initializers.normal(2.0), (self.vocab_size, self.width))
    place = self.param('place', nn.initializers.normal(1.0), (self.block_size, self.width))
    here = cache.end + jnp.arange(tokens.shape[1])[None]  # [1, S]
    position = jnp.maximum(here - cache.start[:, None], 0)
    x = embed[tokens] + place.at[position].get(mode='fill', fill_value=jnp.nan)
    keys = jax.lax.dynamic_update_slice(cache.keys[0, :, :, 0], x, (0, cache.end, 0))
    slot = jnp.arange(keys.shape[1])[None, None]
    mask = (slot <= here[:, :, None]) & (slot >= cache.start[:, None, None])
    past = jnp.einsum('bsn,bnd->bsd', jnp.where(mask, 0.7 ** (here[:, :, None] - slot), 0.0), keys)
    cache = dataclasses.replace(cache, keys=keys[None, :, :, None], end=cache.end + tokens.shape[1])
    return jnp.tanh(past) @ embed.T, cache


@functools.cache
def tiny(**fields):
  model = Tiny(**fields)
  start = model.init_cache(1, 4)
  return model, model.init(jax.random.key(1), jnp.zeros((1, 2), int), start, method='decode')


@functools.cache
def small_gpt(**fields):
  model = GPT(vocab_size=29, block_size=32, layers=2, heads=2, width=16, **fields)
  variables = model.init(jax.random.key(3), jnp.zeros((1, 4), jnp.int32))
  # As it begins its logits are nearly equal: make them differ.
  return model, jax.tree.map(lambda x: 4.0 * x, nn.unbox(variables))


def write(network, prompts, max_tokens=12, key=None, sampling=GREEDY, **kwargs):
  """The tokens of each sequence, without what stands behind its stop."""
  key = jax.random.key(0) if key is None else key
  blocks = generate(*network, prompts, key, max_tokens=max_tokens, sampling=sampling, **kwargs)
  rows = np.concatenate(list(blocks), axis=1)
  return [[t for t in row if t != lib.NO_TOKEN] for row in rows.tolist()]


def uncached(network, prompt, max_tokens):
  """Greedy decoding that reads the whole window for each token; it halves when it is full."""
  model, variables = network
  window, out = list(prompt)[-model.block_size :], []
  for _ in range(max_tokens):
    if len(window) > model.block_size:
      window = window[-(model.block_size // 2) :]
    padded = np.zeros((1, model.block_size), np.int32)
    padded[0, : len(window)] = window
    out.append(int(all_logits(model, variables, padded)[0, len(window) - 1].argmax()))
    window.append(out[-1])
  return out


@functools.partial(jax.jit, static_argnums=0)
def all_logits(model, variables, tokens):
  if isinstance(model, GPT):
    return model.apply(variables, tokens)
  return model.apply(variables, tokens, model.init_cache(*tokens.shape), method='decode')[0]


PROMPTS = [[3], [1, 2, 3, 4, 5, 6, 7, 8, 9], [5, 5], [9, 8, 7, 6]]
NETWORKS = {
  'tiny': tiny,
  'gpt': small_gpt,
  'modern': functools.partial(
    small_gpt, positions='rope', norm='rms', mlp='swiglu', kv_heads=1, bias=False, qk_norm=True
  ),
}
each_network = pytest.mark.parametrize('make', NETWORKS.values(), ids=NETWORKS)
tiny_and_gpt = pytest.mark.parametrize('make', [tiny, small_gpt], ids=['tiny', 'gpt'])

# -------- the loop --------


@pytest.mark.long
@each_network
def test_the_cache_gives_the_tokens_of_a_model_without_one(make):
  ours = write(make(), PROMPTS)
  assert ours == [uncached(make(), prompt, 12) for prompt in PROMPTS]
  assert len({tuple(row) for row in ours}) > 1


@tiny_and_gpt
def test_beyond_the_block_the_window_halves_each_time_it_is_full(make):
  prompts = [[1], list(range(12))]
  assert write(make(), prompts, 75) == [uncached(make(), prompt, 75) for prompt in prompts]


@tiny_and_gpt
def test_of_a_prompt_longer_than_the_block_the_end_counts(make):
  prompt = [i * i % 13 for i in range(50)]
  ours = write(make(), [prompt, [2]], 6)[0]
  assert ours == uncached(make(), prompt, 6) == write(make(), [prompt[-32:]], 6)[0]
  assert ours != write(make(), [prompt[-20:]], 6)[0]


RULES = Sampling(temperature=1.5, top_k=9, top_p=0.95, min_p=0.01, repetition_penalty=1.2)


@pytest.mark.long
@pytest.mark.parametrize(
  'make, sampling', [(tiny, Sampling(temperature=2.0)), (tiny, RULES), (small_gpt, RULES)]
)
def test_a_prompt_goes_on_alone_as_in_company(make, sampling):
  keys = jax.random.split(jax.random.key(7), len(PROMPTS))
  together = write(make(), PROMPTS, 45, keys, sampling)
  for prompt, key, row in zip(PROMPTS, keys, together, strict=True):
    assert write(make(), [prompt], 45, key[None], sampling) == [row]


@pytest.mark.long
def test_the_chunk_is_of_no_consequence():
  rows = [write(tiny(), PROMPTS, 40, sampling=RULES, chunk=chunk) for chunk in (1, 7, 64)]
  assert rows[0] == rows[1] == rows[2]


def test_a_seed_gives_one_text_and_others_others():
  hot = Sampling(temperature=3.0)
  a, b, c = (write(tiny(), [[1], [1]], key=jax.random.key(s), sampling=hot) for s in (4, 4, 5))
  assert a == b and a != c
  assert a[0] != a[1]  # each sequence draws for itself


def test_a_sequence_ends_with_its_stop_and_minus_ones_follow():
  plain = write(tiny(), PROMPTS, 20)
  stop = plain[1][3]
  rows = write(tiny(), PROMPTS, 20, stop_ids=(stop, 12))
  ends = [min((row.index(s) for s in (stop, 12) if s in row), default=19) for row in plain]
  assert rows == [row[: end + 1] for row, end in zip(plain, ends, strict=True)]
  assert rows[1][-1] == stop


def test_nothing_is_computed_once_all_have_stopped():
  stops = range(tiny()[0].vocab_size)
  blocks = list(generate(*tiny(), PROMPTS, jax.random.key(0), max_tokens=99, stop_ids=stops))
  assert [block.shape for block in blocks] == [(len(PROMPTS), 1)]


def test_blocks_come_as_they_are_made():
  blocks = generate(*tiny(), [[1]], jax.random.key(0), max_tokens=11, chunk=4)
  assert [block.shape for block in blocks] == [(1, 4), (1, 4), (1, 3)]


def test_repetition_counts_the_prompt_and_what_was_written():
  prompt = list(range(6))
  row = write(tiny(), [prompt], 7, sampling=Sampling(temperature=0.0, repetition_penalty=1e9))[0]
  # Large enough a penalty, and greedy text holds no token twice while others score above 0.
  model, variables = tiny()
  first = np.asarray(all_logits(model, variables, jnp.asarray([prompt])))[0, -1]
  unseen = [t for t in range(model.vocab_size) if t not in prompt]
  assert row[0] == max(unseen, key=lambda t: first[t])
  assert len(set(row[:3])) == 3


def prefilled(model, variables, batch, form):
  with forms.use(form):
    tokens = np.arange(8 * batch, dtype=np.int32).reshape(batch, 8)
    lengths = np.arange(6 - batch, 6, dtype=np.int32)
    cache = lib._prefill(model, variables, tokens, lengths, np.int32(6), slots=16, form=form)
    return model.decoding_variables(variables), cache


@pytest.mark.long
def test_the_layout_of_a_cpu_gives_the_logits_of_the_model():
  settings = (
    {},
    {'positions': 'rope', 'norm': 'rms', 'mlp': 'swiglu', 'kv_heads': 1, 'bias': False},
    {'qk_norm': True, 'softcap': 5.0, 'tied': False},
  )
  for batch, fields in zip((1, 3, 2), settings, strict=True):
    model, variables = small_gpt(**fields)
    token = np.arange(batch, dtype=np.int32)[:, None]
    decode = jax.jit(functools.partial(model.apply, method='decode'))
    (whole, longer), (ours, layers) = (
      decode(weights, token, cache)
      for weights, cache in (prefilled(model, variables, batch, form) for form in ('plain', 'cpu'))
    )
    np.testing.assert_allclose(ours, whole, rtol=1e-4, atol=1e-4)
    assert layers.end == longer.end == 7
    for a, b in zip(layers.keys, model.decoding_cache(longer).keys, strict=True):
      np.testing.assert_allclose(a[:, :7], b[:, :7], rtol=1e-4, atol=1e-4)


class ScaledQueries(GPT):
  """A GPT with a field more, and a method of a layer that obeys it."""

  scale: float = 1.0

  def queries_keys_values(self, weights, x, positions):
    q, k, v = super().queries_keys_values(weights, x, positions)
    return self.scale * q, k, v


class Alibi(GPT):
  """A GPT with a field more that its own `hidden` and `extend` obey: scores fall with distance."""

  slope: float = 1.0

  def hidden(self, tokens, **kwargs):
    cache = self.init_cache(*tokens.shape)
    return self.extend(tokens, cache)[0]

  def extend(self, tokens, cache):
    end, size = cache.end, cache.keys.shape[2]
    here, slot = end + jnp.arange(tokens.shape[1])[:, None], jnp.arange(size)[None]
    seen = (slot <= here)[None] & (slot[None] >= cache.start[:, None, None])
    positions = jnp.maximum(here[:, 0][None] - cache.start[:, None], 0)

    def layer(x, own):
      weights, _, (keys, values) = own
      q, k, v = self.queries_keys_values(weights, x, positions)
      keys, values = (
        jax.lax.dynamic_update_slice(a, b, (0, end, 0, 0)) for a, b in ((keys, k), (values, v))
      )
      scores = jnp.einsum('bshd,bnhd->bhsn', q, keys) / jnp.sqrt(q.shape[-1])
      scores = jnp.where(seen[:, None], scores - self.slope * (here - slot)[None, None], -1e30)
      y = jnp.einsum('bhsn,bnhd->bshd', jax.nn.softmax(scores), values)
      return self.add_residuals(weights, x, y), (keys, values)

    x, (keys, values) = self.apply_layers(
      layer, self.embed(tokens, positions), (cache.keys, cache.values)
    )
    return self.normalise_output(x), Cache(keys, values, cache.start, end + tokens.shape[1])


@pytest.mark.parametrize('kind, field', [(ScaledQueries, 'scale'), (Alibi, 'slope')])
def test_a_field_that_the_cpu_does_not_know_still_decides_the_text(kind, field):
  """A layer's method is called on a CPU too; a decoder of its own gets the plain cache."""
  plain, variables = small_gpt()
  fields = {
    name: getattr(plain, name) for name in ('vocab_size', 'block_size', 'layers', 'heads', 'width')
  }
  texts = []
  for value in (0.2, 3.0):
    network = kind(**fields, **{field: value}), variables
    assert forms.formulation() == 'cpu'
    texts.append(write(network, PROMPTS))
    assert texts[-1] == [uncached(network, prompt, 12) for prompt in PROMPTS]
  assert texts[0] != texts[1]


def test_both_forms_write_the_same():
  with forms.use('plain'):
    plain = write(small_gpt(), PROMPTS, 6)
  assert plain == write(small_gpt(), PROMPTS, 6)


# -------- compilations --------


def compilations():
  return lib._prefill._cache_size(), lib._run._cache_size()


def test_one_compilation_for_all_lengths_of_a_bucket_and_all_numbers_of_tokens():
  model, variables = tiny(vocab_size=7)  # that no other test compiles
  before = compilations()
  for length, max_tokens, heat in ((17, 3, 0.5), (20, 21, 1.0), (30, 40, 1.5)):
    sampling = Sampling(temperature=heat, top_p=heat / 2)
    write((model, variables), [[1] * length, [2]], max_tokens, sampling=sampling)
  assert np.subtract(compilations(), before).tolist() == [2, 1]  # 40 tokens read 16 anew
  write((model, variables), [[1] * 3, [2]], 3, sampling=sampling)
  assert np.subtract(compilations(), before).tolist() == [2, 1]


@pytest.mark.parametrize('batch', [1, 2])
def test_the_loop_writes_into_the_cache_it_was_given(batch):
  model, variables = small_gpt()
  cache = model.decoding_cache(model.init_cache(batch, 4096))
  state = lib._start(model, [[1]] * batch, GREEDY.filters)
  keys = jax.random.split(jax.random.key(0), batch)
  weights = model.decoding_variables(variables)
  none, limit = np.zeros(0, np.int32), np.int32(2)
  args = (model, weights, cache, state, keys, none, GREEDY.numbers, limit)
  compiled = lib._run.lower(*args, filters=GREEDY.filters, chunk=4).compile()
  # Not even one layer's keys are held twice.
  assert compiled.memory_analysis().temp_size_in_bytes < cache.keys[0].nbytes
  lib._run(*args, filters=GREEDY.filters, chunk=4)
  assert cache.keys[0].is_deleted()


# -------- errors --------


@pytest.mark.parametrize(
  'prompts, kwargs, message',
  [
    ([], {}, r'prompts=\[\]: give at least one'),
    ([[1], []], {}, r'prompts\[1\] is empty: a prompt has at least one token'),
    ([[1], [2, 13]], {}, r'prompts\[1\] holds 13: ids are from 0 to 12'),
    ([[-1]], {}, r'prompts\[0\] holds -1'),
    ([[1]], {'stop_ids': (99,)}, r'stop_ids holds 99: ids are from 0 to 12'),
    ([[1]], {'max_tokens': 0}, 'max_tokens=0: must be at least 1'),
    ([[1]], {'chunk': 0}, 'chunk=0: must be at least 1'),
    ([[1]], {'key': 'raw'}, r'key uint32\[2\]: give one of jax.random.key'),
    ([[1]], {'key': 'two'}, 'or one for each prompt'),
  ],
)
def test_errors_come_at_once_and_name_the_value(prompts, kwargs, message):
  one = jax.random.key(0)
  keys = {'one': one, 'two': jax.random.split(one), 'raw': jax.random.PRNGKey(0)}
  kwargs = {'key': 'one', 'max_tokens': 4} | kwargs
  key = keys[kwargs.pop('key')]
  with pytest.raises(ValueError, match=message):
    generate(*tiny(), prompts, key, **kwargs)
