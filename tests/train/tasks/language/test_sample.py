"""What a language model writes, as a user gets it: stops, streaming, seeds, prompts, meshes."""

import dataclasses
import io
import json
import math
import sys

import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from data.text import tokenizers
from data.text.bpe import byte_bpe
from data.text.source import TextData
from models.gpt import UncachedLanguageModel
from models.gpt import generation as generate_lib
from train import mesh as mesh_lib
from train.errors import UserError
from train.tasks.language import sample
from train.tasks.language.sample import GrowingText, first_tokens
from train.tasks.language.task import Language

quick = hypothesis.settings(max_examples=100)
BYTES = tokenizers.Bytes()
PLAY = 'to be, or not to be: that is the question.\n' * 60
MODEL = {'name': 'gpt', 'layers': 2, 'heads': 4, 'width': 32, 'block_size': 16}


class Chain(UncachedLanguageModel):
  """Says after each token the one that its parameter `table` names, without a doubt."""

  block_size: int = 16

  @nn.compact
  def decode(self, tokens, cache):
    table = self.param('table', nn.initializers.zeros, (self.vocab_size,), jnp.int32)
    return 1e3 * jax.nn.one_hot(table[tokens], self.vocab_size), cache


def recite(tokenizer, order, prompts, tokens=40, stop=()):
  """The texts that follow the prompts where the tokens `order` go round in a ring."""
  table = np.zeros(tokenizer.vocab_size, np.int32)
  table[order] = np.roll(order, -1)
  texts = [GrowingText(tokenizer, prompt, stop) for prompt in prompts]
  variables = {'params': {'table': jnp.asarray(table)}}
  model, key = Chain(tokenizer.vocab_size), jax.random.key(0)
  sample.compose(model, variables, tokenizer, texts, key, tokens=tokens)
  return texts


# -------- one text --------


def cut(text, stop):
  """`text` up to the stop string that is complete first, the longest of those that end there."""
  for end in range(len(text) + 1):
    if ended := [s for s in stop if text[:end].endswith(s)]:
      return text[: end - max(map(len, ended))], 'stop'
  return text, 'length'


@quick
@hypothesis.given(st.text('abé€'), st.lists(st.text('abé€', min_size=1, max_size=4), max_size=3))
def test_a_text_ends_before_the_first_stop_and_shows_nothing_of_it(string, stop):
  text, ids = GrowingText(BYTES, 'b', stop), BYTES.encode(string)
  final, reason = cut(string, stop)
  for token in ids:
    text.push([token])
    assert f'b{final}'.startswith(text.text)
  text.close()
  assert (text.text, text.ended) == (f'b{final}', reason)


@quick
@hypothesis.given(st.binary(), st.integers(1, 5))
def test_what_has_been_shown_is_never_taken_back(data, size):
  """Bytes that are no UTF-8, or not yet."""
  text, shown = GrowingText(BYTES), ''
  for i in range(0, len(data), size):
    text.push(list(data[i : i + size]))
    assert text.text.startswith(shown)
    shown = text.text
  text.close()
  assert text.text == data.decode('utf-8', 'replace')


def test_half_a_character_waits_for_the_other_half():
  text = GrowingText(BYTES)
  text.push('né'.encode()[:2])
  assert text.text == 'n'
  text.push('né'.encode()[2:])
  assert text.text == 'né'


def test_the_end_of_a_text_is_no_part_of_it():
  text = GrowingText(BYTES)
  text.push([104, 105, BYTES.eot, 104])
  assert (text.text, text.tokens, text.ended) == ('hi', 3, 'end of text')


def test_an_empty_prompt_stands_behind_another_text_or_a_line():
  assert first_tokens(BYTES, '') == [256]
  assert first_tokens(tokenizers.characters('ab\n'), '') == [0]
  assert first_tokens(tokenizers.characters('\tb\n'), '') == [1]
  assert first_tokens(tokenizers.characters('ba'), '') == [0]
  bpe = tokenizers.train_bpe(['to be or not to be'], 260)
  assert first_tokens(bpe, '') == [bpe.eot]


# -------- of a network --------


def test_texts_of_a_batch_end_each_at_its_own_stop():
  letters = tokenizers.characters('abcdefgh')
  texts = recite(letters, range(8), ['', 'gh', 'abcd'], stop=['hab', 'cde'])
  assert [text.text for text in texts] == ['b', 'ghab', 'abcdefg']
  assert {text.ended for text in texts} == {'stop'}


def test_nothing_is_made_once_all_texts_have_ended():
  letters = tokenizers.characters('abcdefgh')
  seen = []
  text = GrowingText(letters, 'a', ['cd'])
  table = jnp.asarray(np.roll(np.arange(8), -1))
  key = jax.random.key(0)
  how = {'tokens': 10**6, 'on_block': lambda: seen.append(text.text)}
  sample.compose(Chain(8), {'params': {'table': table}}, letters, [text], key, **how)
  assert seen == ['ab']


def test_the_token_for_the_end_ends_a_text():
  order = [*'ab€'.encode(), BYTES.eot]
  first, second = recite(BYTES, order, ['', 'a'])
  assert (first.text, first.ended, first.tokens) == ('ab€', 'end of text', 6)
  assert (second.text, second.ended) == ('ab€', 'end of text')


def test_tokens_that_are_no_text_are_shown_as_such():
  order = [0xE2, 0x82, 97, 0xFF, 0xC3, 0xA9]
  (text,) = recite(BYTES, order, ['a'], tokens=12)
  assert text.text == 'a' + bytes([0xFF, 0xC3, 0xA9, 0xE2, 0x82, 97] * 2).decode('utf-8', 'replace')
  assert 'é' in text.text and '\ufffd' in text.text


# -------- the verb sample --------


@pytest.fixture(scope='module')
def play(tmp_path_factory):
  """A language task of characters, and variables that make a token's neighbours unequal."""
  folder = tmp_path_factory.mktemp('play')
  (folder / 'text.txt').write_text(PLAY)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(folder / 'cache'))
    options = {'tokenizer': 'characters', 'block_size': 16, 'batch_size': 8}
    data = TextData(str(folder / 'text.txt'), **options)
  task = Language(MODEL, data, sample_tokens=30)
  variables = jax.tree.map(lambda x: 4 * x, mesh_lib.unbox(task.init(jax.random.key(1))))
  yield task, variables
  task.close()


@pytest.fixture
def write(play, tmp_path, capsys):
  """Runs `sample`: what stood on stdout, on stderr, and the new lines of the file."""
  task, variables = play

  def run(**options):
    file = tmp_path / 'samples' / sample.FILE
    old = len(file.read_text().splitlines()) if file.exists() else 0
    task.sample(variables, str(tmp_path / 'samples'), **{'tokens': 20, **options})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    captured = capsys.readouterr()
    return captured.out, captured.err, lines[old:]

  return run


@pytest.mark.long
def test_a_text_is_the_prompt_and_what_follows(write):
  out, err, [line] = write(prompt=['to be'])
  assert out.startswith('to be') and len(out) == len('to be') + 20 + 1
  assert out == line['text'] + '\n'
  assert (line['prompt'], line['tokens'], line['ended']) == ('to be', 20, 'length')
  assert err.startswith('20 tokens, ') and 'tokens/s' in err


def test_what_is_shown_block_by_block_is_the_whole(play, monkeypatch):
  shown = []
  monkeypatch.setattr(sys.stdout, 'write', shown.append)
  task, variables = play
  screen = sample.Screen([GrowingText(task.data.tokenizer, 'to')])
  text = screen._texts[0]
  key = jax.random.key(0)
  how = {'tokens': 20, 'on_block': screen.refresh}
  sample.compose(task.model, variables, task.data.tokenizer, [text], key, **how)
  screen.close()
  pieces = [piece for piece in shown if piece]
  assert ''.join(pieces) == text.text + '\n'
  assert len(pieces) == math.ceil(20 / sample.BLOCK) + 1  # and the end of the line


def test_a_seed_is_a_text(write):
  first, again, other = (write(seed=seed)[0] for seed in (3, 3, 4))
  assert first == again != other


def test_many_texts_are_each_what_they_are_alone(write):
  """Prompts of unequal lengths, the empty one and one longer than the block among them."""
  prompts = ['', 'to be, ', 'question ' * 5, 't']
  _, err, lines = write(prompt=prompts, samples=2, seed=5)
  assert [line['prompt'] for line in lines] == [p for p in prompts for _ in range(2)]
  for i, prompt in enumerate(prompts):
    _, _, alone = write(prompt=[prompt], samples=2, seed=5)
    assert [line['text'] for line in alone] == [line['text'] for line in lines[2 * i : 2 * i + 2]]
  for a, b in zip(lines[::2], lines[1::2], strict=True):
    assert a['text'] != b['text']
  assert 'prompt of 45 tokens: the network reads the last 16' in err


def test_texts_stand_one_below_the_other(write):
  out, _, lines = write(prompt=['to ', 'be '], tokens=5)
  first, second = (line['text'] for line in lines)
  assert out == f'{first}\n-------- 2 of 2 --------\n{second}\n'


def test_a_long_prompt_is_continued_from_its_end(write):
  prompt = 'to be, or not to be: '
  _, _, [long] = write(prompt=[prompt], temperature=0.0)
  _, _, [end] = write(prompt=[prompt[-16:]], temperature=0.0)
  assert long['text'] == prompt[:-16] + end['text']


@pytest.mark.long
def test_devices_that_share_texts_leave_the_writing_to_one(write):
  alone, _, _ = write(prompt=['to be'], tokens=5)
  with mesh_lib.activate(mesh_lib.make_mesh(2, context=4)):
    out, err, _ = write(prompt=['to be'], tokens=5)
  assert out == alone and err.startswith('mesh.context=4: is for training and evaluation;')


def test_what_the_terminal_lacks_does_not_stop_a_text():
  out = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  text = GrowingText(BYTES, 'né')
  text.close()
  sample.Screen([text], out).close()
  assert out.buffer.getvalue() == b'n?\n'


class Terminal(io.StringIO):
  encoding = 'utf-8'

  def isatty(self):
    return True


def test_control_characters_reach_a_file_and_no_terminal():
  pipe = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
  for out in (pipe, terminal := Terminal()):
    text = GrowingText(BYTES, 'a\x1b[2J\tb\r\nc\rd\x9b')
    text.close()
    sample.Screen([text], out).close()
  assert terminal.getvalue() == 'a\\x1b[2J\tb\nc\\rd\\x9b\n'
  assert pipe.buffer.getvalue().decode() == 'a\x1b[2J\tb\r\nc\rd\x9b\n'


def test_other_ends_than_that_between_documents_end_a_text():
  bpe = dataclasses.replace(byte_bpe(), ends=(256, 10))
  [text] = recite(bpe, [*b'ab\n'], ['a'])
  assert (text.text, text.ended) == ('ab', 'end of text')


def test_more_texts_than_are_made_at_once_are_each_what_they_are_alone(write, monkeypatch):
  _, _, whole = write(samples=5, tokens=6)
  monkeypatch.setattr(sample, 'AT_ONCE', 2)
  _, _, lines = write(samples=5, tokens=6)
  assert lines == whole


def test_logits_that_are_no_numbers_end_in_a_line_and_lose_nothing(play, write, tmp_path):
  task, variables = play
  broken = jax.tree.map(lambda x: x * jnp.nan, variables)
  with pytest.raises(UserError, match=r'gives text 1 logits that are not finite; .* is kept in'):
    task.sample(broken, str(tmp_path / 'samples'), tokens=5)
  assert b'not finite' in task.draw(broken, jax.random.key(0))['sample.txt']


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'samples': 0}, 'samples=0: must be at least 1'),
    ({'samples': 10**9}, 'samples=1000000000: must be at most 100,000'),
    ({'stop': ['\udcff']}, 'surrogates not allowed'),
    ({'tokens': 0}, 'tokens=0: must be at least 1'),
    ({'prompt': []}, r'prompt=\[\]: give at least one'),
    ({'prompt': ['to bé']}, r"prompt='to bé': character 'é' \(U\+00E9\) at 4 .* vocabulary$"),
    ({'stop': ['']}, "stop='': must have a character"),
    ({'seed': -1}, 'seed=-1: must be at least 0'),
    ({'temperature': -1.0}, r'temperature=-1\.0: must be a number >= 0'),
    ({'top_p': 0.0}, r'top_p=0\.0: must be in'),
  ],
)
def test_what_cannot_be_is_said_in_a_line(write, options, message):
  with pytest.raises(UserError, match=message) as error:
    write(**options)
  assert '\n' not in str(error.value)


# -------- samples in training --------


@pytest.mark.long
@pytest.mark.parametrize('layout', [(8, 1, 1), (1, 8, 1), (2, 2, 2)], ids=str)
def test_every_mesh_draws_the_same_text(play, layout):
  task, variables = play
  one = task.draw(variables, jax.random.key(7))
  assert len(one['sample.txt']) == 30
  mesh = mesh_lib.make_mesh(*layout)
  boxed = jax.eval_shape(task.init, jax.random.key(0))
  with mesh_lib.activate(mesh):
    spread = jax.device_put(variables, mesh_lib.shardings(boxed, mesh))
    if layout != (8, 1, 1):
      assert not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(spread))
    assert task.draw(spread, jax.random.key(7)) == one


def test_the_second_drawing_compiles_nothing(play):
  task, variables = play
  variables = jax.device_put(variables, jax.devices()[0])
  task.draw(variables, jax.random.key(0))
  before = generate_lib._run._cache_size(), generate_lib._prefill._cache_size()
  assert task.draw(variables, jax.random.key(1)) != task.draw(variables, jax.random.key(2))
  assert (generate_lib._run._cache_size(), generate_lib._prefill._cache_size()) == before


def test_a_drawing_is_of_the_tasks_prompt_and_length(play):
  task, variables = play
  other = Language(MODEL, task.data, sample_tokens=5, prompt='to be')
  text = other.draw(variables, jax.random.key(0))['sample.txt'].decode()
  assert text.startswith('to be') and len(text) == 10
  assert Language(MODEL, task.data, sample_tokens=0).draw(variables, jax.random.key(0)) == {}
  with pytest.raises(UserError, match=r"task\.prompt='é': character 'é'"):
    Language(MODEL, task.data, prompt='é')
  with pytest.raises(UserError, match=r'task\.sample_tokens=-1'):
    Language(MODEL, task.data, sample_tokens=-1)
