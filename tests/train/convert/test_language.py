"""Public weights as a workdir, its evaluation and the way back, by transformers, too."""

import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest

from data.text import tokenizers
from models.gpt import huggingface
from tests.train.tasks.language import small_gpt2 as small
from tests.train.tasks.language.small_gpt2 import (
  BPE,
  MODEL,
  TEXT,
  assert_same,
  random_variables,
  tune,
)
from train import convert, verbs
from train.errors import UserError

pytestmark = pytest.mark.usefixtures('one_device')
cache, text, folder, workdir = small.cache, small.text, small.folder, small.workdir  # fixtures

SIZES = {'vocab_size': 300, 'n_positions': 32, 'n_embd': 16, 'n_layer': 2, 'n_head': 2}


def nats(model, variables, tokens, block):
  """The mean over a stream in windows of `block`, computed directly."""
  total, count = 0.0, 0
  for start in range(0, len(tokens) - 1, block):
    window = np.asarray(tokens[start : start + block + 1])[None]
    logits = np.asarray(model.apply(variables, window[:, :-1]), np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total -= np.take_along_axis(logs, window[:, 1:, None], -1).sum()
    count += window.shape[1] - 1
  return total / count


# -------- in --------


@pytest.mark.long
def test_an_imported_workdir_is_a_run_like_any(folder, workdir, text):
  run = verbs.load_run(workdir)
  model, variables = huggingface.from_hf(folder)
  assert run.step == 0 and run.task.model == model
  assert_same(run.variables, variables)
  assert run.task.data.tokenizer == BPE
  metrics = verbs.evaluate([workdir], overrides={'data.dataset': text})['metrics']
  stream = run.task.data.tokenizer.encode(TEXT[int(len(TEXT) * 0.9) :])
  expected = nats(model, variables, [BPE.eot, *stream, BPE.eot], 32)
  assert metrics['val/loss'] == pytest.approx(expected, abs=1e-5)


def test_it_is_opened_without_any_text(workdir, monkeypatch):
  monkeypatch.setattr(
    'data.text.datasets.load', lambda *args, **kwargs: pytest.fail('text is read')
  )
  data = verbs.load_run(workdir).task.data
  assert data.tokenizer.decode(data.tokenizer.encode('the cat')) == 'the cat'


def layout(*, keep, rename=()):
  def change(folder):
    for path in folder.iterdir():
      if path.name not in ('config.json', 'model.safetensors', *keep):
        path.unlink()
    for old, new in dict(rename).items():
      (folder / old).rename(folder / new)

  return change


@pytest.mark.parametrize(
  'change',
  [
    layout(keep=['tokenizer.json']),
    layout(keep=['vocab.json', 'merges.txt']),
    layout(
      keep=['vocab.json', 'merges.txt'],
      rename={'vocab.json': 'encoder.json', 'merges.txt': 'vocab.bpe'},
    ),
  ],
  ids=['json', 'pair', 'openai'],
)
def test_a_tokenizer_is_found_in_each_layout(change, folder, tmp_path):
  change(pathlib.Path(folder))
  convert.import_weights(folder, str(tmp_path / 'run'))
  shutil.rmtree(folder)
  kept = verbs.load_run(str(tmp_path / 'run')).task.data.tokenizer
  assert kept.encode(TEXT) == BPE.encode(TEXT)


def test_without_a_tokenizer_texts_are_numbers(folder, tmp_path, capsys):
  layout(keep=[])(pathlib.Path(folder))
  workdir = str(tmp_path / 'run')
  convert.import_weights(folder, workdir)
  assert 'holds no tokenizer' in capsys.readouterr().out
  assert verbs.read_config(workdir)['data']['tokenizer'] == 'numbers:300'
  (tmp_path / 'numbers.txt').write_text(' '.join(map(str, range(300))))
  overrides = {'data.dataset': str(tmp_path / 'numbers.txt'), 'data.block_size': '8'}
  loss = verbs.evaluate([workdir], overrides=overrides)['metrics']['val/loss']
  assert 0 < loss < 20
  convert.export_hf(workdir, str(tmp_path / 'out'))
  assert 'no tokenizer like numbers' in capsys.readouterr().out


def test_the_models_end_of_text_is_said_and_kept(folder, tmp_path, capsys):
  path = pathlib.Path(folder)
  config = json.loads((path / 'config.json').read_text())
  (path / 'config.json').write_text(json.dumps({**config, 'eos_token_id': 70}))
  (path / 'generation_config.json').unlink()
  convert.import_weights(folder, str(tmp_path / 'run'))
  assert 'texts end at ' in (said := capsys.readouterr().out) and '(70)' in said
  assert verbs.load_run(str(tmp_path / 'run')).task.data.tokenizer.ends == (BPE.eot, 70)
  convert.export_hf(str(tmp_path / 'run'), str(tmp_path / 'out'))
  assert tokenizers.load(tmp_path / 'out').ends == (BPE.eot, 70)
  layout(keep=[])(path)
  (path / 'config.json').write_text(json.dumps({**config, 'eos_token_id': 70}))
  convert.import_weights(folder, str(tmp_path / 'numbers'))
  kept = tokenizers.load(tmp_path / 'numbers' / 'tokenizer')
  assert kept == tokenizers.Numbers(300, (70,)) and kept.eot == 70


def test_the_published_size_without_a_tokenizer_is_gpt2s(folder, tmp_path, monkeypatch):
  """Its tokens are what they are; the tokenizer may come later, or be there at import."""
  model = MODEL.clone(vocab_size=50_257)
  shutil.rmtree(folder)
  huggingface.to_hf(model, random_variables(model), folder)
  convert.import_weights(folder, str(tmp_path / 'later'))
  with pytest.raises(UserError, match=r"data.tokenizer='gpt2': .*set GPT2_BPE_DIR"):
    verbs.load_run(str(tmp_path / 'later'))
  monkeypatch.setattr(tokenizers, 'gpt2', lambda at: BPE if at == 'somewhere' else None)
  monkeypatch.setenv('GPT2_BPE_DIR', 'somewhere')
  convert.import_weights(folder, str(tmp_path / 'now'))
  assert (tmp_path / 'now' / 'tokenizer' / 'vocab.json').exists()


@pytest.mark.long
@pytest.mark.parametrize('rows, multiple', [(320, 64), (303, 303)])
def test_rows_without_a_token_become_padding(rows, multiple, folder, tmp_path, capsys):
  model = MODEL.clone(vocab_size=rows)
  variables = random_variables(model)
  huggingface.to_hf(model, variables, folder)
  convert.import_weights(folder, str(tmp_path / 'run'))
  assert f'{rows} tokens, 300 in its tokenizer' in capsys.readouterr().out
  run = verbs.load_run(str(tmp_path / 'run'))
  assert (run.task.model.vocab_size, run.task.model.vocab_multiple) == (300, multiple)
  tokens = np.arange(10, dtype=np.int32)[None]
  np.testing.assert_allclose(
    run.task.model.apply(run.variables, tokens),
    model.apply(variables, tokens)[..., :300],
    atol=1e-6,
  )


def test_what_is_wrong_is_one_line_and_leaves_nothing(folder, tmp_path):
  workdir = tmp_path / 'run'
  (pathlib.Path(folder) / 'tokenizer.json').write_text('{')
  with pytest.raises(UserError, match=r'tokenizer.json: not JSON, or cut short') as caught:
    convert.import_weights(folder, str(workdir))
  assert '\n' not in str(caught.value)
  shutil.rmtree(folder)
  huggingface.to_hf(
    MODEL.clone(vocab_size=299), random_variables(MODEL.clone(vocab_size=299)), folder
  )
  BPE.save(folder)
  with pytest.raises(UserError, match=r'its tokenizer has 300 tokens, its weights only 299'):
    convert.import_weights(folder, str(workdir))
  with pytest.raises(UserError, match='no such folder'):
    convert.import_weights(str(tmp_path / 'nowhere'), str(workdir))
  broken = jax.tree.map(lambda x: np.where(x > 0.5, np.nan, x), random_variables(MODEL))
  huggingface.to_hf(MODEL, broken, folder)
  with pytest.raises(UserError, match=r'hf: has weights that are not finite: params/.*'):
    convert.import_weights(folder, str(workdir))
  (pathlib.Path(folder) / 'tokenizer.json').unlink()
  layout(keep=[])(pathlib.Path(folder))
  (pathlib.Path(folder) / 'vocab.txt').write_text('[PAD]')
  huggingface.to_hf(MODEL, random_variables(MODEL), folder)
  with pytest.raises(UserError, match=r'holds vocab.txt, a WordPiece vocabulary'):
    convert.import_weights(folder, str(workdir))
  assert not workdir.exists() and not list(tmp_path.glob('.*'))


def test_a_folder_that_holds_something_is_left_alone(folder, workdir, tmp_path):
  (tmp_path / 'notes').mkdir()
  (tmp_path / 'notes' / 'mine.txt').write_text('mine')
  for path in ('notes', 'notes/mine.txt', 'run'):
    with pytest.raises(UserError, match=r'holds something already'):
      convert.import_weights(folder, str(tmp_path / path))
    with pytest.raises(UserError, match=r'holds something already'):
      convert.export_hf(workdir, str(tmp_path / path))
  assert (tmp_path / 'notes' / 'mine.txt').read_text() == 'mine'
  assert verbs.load_run(workdir).step == 0


def test_an_import_that_is_interrupted_leaves_no_workdir(folder, tmp_path, monkeypatch):
  def stop(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(convert.incoming, 'write_json', stop)
  with pytest.raises(KeyboardInterrupt):
    convert.import_weights(folder, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
  (tmp_path / '.run.unfinished').mkdir()  # of one that was killed
  (tmp_path / '.run.unfinished' / 'half').touch()
  (tmp_path / 'run').mkdir()  # empty: as good as new
  monkeypatch.undo()
  convert.import_weights(folder, str(tmp_path / 'run'))
  assert verbs.load_run(str(tmp_path / 'run')).step == 0
  assert not (tmp_path / 'run' / 'half').exists()


# -------- out --------


def test_what_is_exported_is_imported_again(folder, workdir, tmp_path):
  out = str(tmp_path / 'out')
  convert.export_hf(workdir, out)
  assert_same(huggingface.from_hf(out)[1], huggingface.from_hf(folder)[1])
  assert tokenizers.load(out) == BPE
  saved = json.loads(pathlib.Path(out, 'config.json').read_text())
  assert saved['eos_token_id'] == saved['bos_token_id'] == BPE.eot


@pytest.mark.long
def test_averaged_weights_are_exported_where_they_are_kept(workdir, text, tmp_path):
  tune(workdir, text, steps=3, train__ema_decay=0.9)
  convert.export_hf(workdir, str(tmp_path / 'out'), 3)
  assert_same(
    huggingface.from_hf(tmp_path / 'out')[1], jax.device_get(verbs.load_run(workdir).variables)
  )


def trained(tmp_path, text, tokenizer, **model):
  config = {
    'model': {'name': 'gpt', 'layers': 1, 'heads': 2, 'width': 16, 'block_size': 16, **model},
    'task': 'language',
    'data': {'name': 'text', 'dataset': text, 'tokenizer': tokenizer, 'block_size': 16},
    'optimizer': {'name': 'adamw', 'learning_rate': 1e-3},
    'train': {'steps': 1},
  }
  verbs.train(verbs.complete_config(config), str(tmp_path / 'own'))
  return str(tmp_path / 'own')


@pytest.mark.long
@pytest.mark.parametrize(
  'tokenizer',
  ['bpe:280', *(pytest.param(x, marks=pytest.mark.slow) for x in ('characters', 'bytes'))],
)
def test_ones_own_model_with_its_tokenizer(tokenizer, text, tmp_path):
  transformers = pytest.importorskip('transformers')
  workdir = trained(tmp_path, text, tokenizer, vocab_multiple=64, bias=False)
  convert.export_hf(workdir, str(tmp_path / 'out'))
  run = verbs.load_run(workdir)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'out')
  ours = run.task.data.tokenizer
  sample = TEXT[:150] if tokenizer == 'characters' else 'a cat 猫 \n\n  été'
  assert theirs.encode(sample) == ours.encode(sample)
  assert theirs.decode(ours.encode(sample)) == sample
  assert theirs.eos_token_id == ours.eot and len(theirs) == ours.vocab_size
  convert.import_weights(str(tmp_path / 'out'), str(tmp_path / 'again'))
  again = verbs.load_run(str(tmp_path / 'again'))
  assert again.task.data.tokenizer == ours
  tokens = np.arange(16, dtype=np.int32)[None]
  np.testing.assert_allclose(
    again.task.model.apply(again.variables, tokens),
    run.task.model.apply(run.variables, tokens),
    atol=1e-5,
  )


@pytest.mark.long
def test_only_what_gpt2_files_can_say_is_exported(text, tmp_path):
  workdir = trained(tmp_path, text, 'bytes', positions='rope')
  with pytest.raises(UserError, match=r"model.norm='layer': Llama files can only say 'rms'"):
    convert.export_hf(workdir, str(tmp_path / 'out'))
  with pytest.raises(UserError, match=r'no config.json there'):
    convert.export_hf(str(tmp_path / 'nowhere'), str(tmp_path / 'out'))
  assert not os.path.exists(tmp_path / 'out')


# -------- there and back, against transformers itself --------


@pytest.mark.long
def test_there_and_back_by_transformers(text, tmp_path):
  """A model of theirs: imported, evaluated, fine-tuned, exported, and loaded by them."""
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES)).eval()
  theirs.save_pretrained(tmp_path / 'hf')
  BPE.save(tmp_path / 'bpe')
  transformers.AutoTokenizer.from_pretrained(tmp_path / 'bpe').save_pretrained(tmp_path / 'hf')
  workdir = str(tmp_path / 'run')
  convert.import_weights(str(tmp_path / 'hf'), workdir)

  def logits_of(model, tokens):
    with torch.no_grad():
      return model(torch.tensor(tokens)).logits.numpy()

  run = verbs.load_run(workdir)
  tokens = np.asarray([run.task.data.tokenizer.encode(TEXT[:100])[:32]])
  np.testing.assert_allclose(
    run.task.model.apply(run.variables, tokens), logits_of(theirs, tokens), atol=1e-4
  )
  tune(workdir, text)
  convert.export_hf(workdir, str(tmp_path / 'out'))
  back = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / 'out').eval()
  run = verbs.load_run(workdir)
  np.testing.assert_allclose(
    logits_of(back, tokens), run.task.model.apply(run.variables, tokens), atol=1e-4
  )
  one, two = map(transformers.AutoTokenizer.from_pretrained, (tmp_path / 'hf', tmp_path / 'out'))
  sample = TEXT + '<|endoftext|>\n猫  12'
  assert one.encode(sample) == two.encode(sample) == run.task.data.tokenizer.encode(sample)
  names = {'config.json', 'model.safetensors', 'vocab.json', 'merges.txt', 'tokenizer.json'}
  assert names | {'tokenizer_config.json'} <= {path.name for path in (tmp_path / 'out').iterdir()}
