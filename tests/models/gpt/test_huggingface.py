"""Hugging Face folders in and out, against transformers itself and against hand-made files."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.gpt import GPT, gpt2, huggingface, layout
from models.weights import safetensors_folder
from models.weights.files import Files

SIZES = {'vocab_size': 37, 'n_positions': 16, 'n_embd': 12, 'n_layer': 2, 'n_head': 3}
MODEL = GPT(37, block_size=16, layers=2, heads=3, width=12, dropout=0.1)
TOKENS = np.random.default_rng(0).integers(37, size=(2, 16), dtype=np.int32)


def start(model):
  """Random variables in NumPy, also where they begin as zeros or ones."""
  shapes = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), TOKENS))
  leaves, tree = jax.tree.flatten(shapes)
  draw = np.random.default_rng(0)
  return jax.tree.unflatten(tree, [0.3 * draw.normal(size=x.shape).astype('f4') for x in leaves])


def run(model, variables):
  return np.asarray(jax.jit(model.apply)(variables, TOKENS))


@pytest.fixture
def folder(tmp_path):
  """Our own export of MODEL; tests edit its files."""
  huggingface.to_hf(MODEL, start(MODEL), tmp_path)
  return tmp_path


def edit_config(folder, **settings):
  path = folder / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def rewrite(folder, edit):
  """Writes model.safetensors anew with the tensors as `edit(dict)` leaves them."""
  path = folder / 'model.safetensors'
  tensors = load_file(path)
  edit(tensors)
  save_file(tensors, path)


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


# -------- against transformers --------


def their_model(**config):
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  config = transformers.GPT2Config(**{**SIZES, **config}, bos_token_id=0, eos_token_id=0)
  model = transformers.GPT2LMHeadModel(config).eval()
  with torch.no_grad():  # biases and scales begin as zeros and ones
    for parameter in model.parameters():
      parameter.add_(0.2 * torch.randn_like(parameter))
  return model


def their_logits(model):
  torch = pytest.importorskip('torch')
  with torch.no_grad():
    return model(torch.tensor(TOKENS, dtype=torch.int64)).logits.float().numpy()


@pytest.mark.parametrize(
  'config, saving',
  [
    ({}, {}),
    ({'n_inner': 20, 'activation_function': 'gelu_pytorch_tanh'}, {}),
    ({'tie_word_embeddings': False}, {}),
    ({'reorder_and_upcast_attn': True}, {'max_shard_size': '8KB'}),
  ],
  ids=['plain', 'n_inner', 'untied', 'sharded'],
)
def test_imported_logits_are_those_of_transformers(config, saving, tmp_path):
  theirs = their_model(**config)
  theirs.save_pretrained(tmp_path, **saving)
  assert len(list(tmp_path.glob('*.safetensors'))) > 1 or not saving
  model, variables = huggingface.from_hf(tmp_path)
  np.testing.assert_allclose(run(model, variables), their_logits(theirs), atol=1e-4)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_files_are_read_exactly(dtype, tmp_path):
  torch = pytest.importorskip('torch')
  theirs = their_model().to(getattr(torch, dtype))
  theirs.save_pretrained(tmp_path)
  model, variables = huggingface.from_hf(tmp_path)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}
  np.testing.assert_allclose(run(model, variables), their_logits(theirs.float()), atol=1e-4)


@pytest.mark.parametrize(
  'kwargs',
  [{}, {'bias': False}, {'tied': False, 'mlp_width': 20}],
  ids=['plain', 'no_bias', 'untied'],
)
def test_transformers_loads_what_is_exported(kwargs, tmp_path):
  transformers = pytest.importorskip('transformers')
  model = MODEL.clone(**kwargs)
  variables = start(model)
  huggingface.to_hf(model, variables, tmp_path, eos_token_id=36)
  theirs, info = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
  assert not any(info.values()), info
  np.testing.assert_allclose(their_logits(theirs.eval()), run(model, variables), atol=1e-4)
  assert theirs.config.eos_token_id == 36


# -------- layouts --------


def test_export_and_import_give_back_the_same(folder):
  model, variables = huggingface.from_hf(folder)
  assert model == MODEL.clone(mlp_width=None)
  assert_same(variables, start(MODEL))
  assert (folder / 'model.safetensors').stat().st_mode == (folder / 'config.json').stat().st_mode
  again = folder / 'again'
  huggingface.to_hf(model, jax.tree.map(jnp.asarray, variables), again)
  for name in ('config.json', 'model.safetensors'):
    assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_biases_that_a_model_lacks_are_exported_as_zeros(tmp_path):
  model = MODEL.clone(bias=False)
  huggingface.to_hf(model, start(model), tmp_path)
  back, variables = huggingface.from_hf(tmp_path)
  assert back.bias and not np.any(variables['params']['blocks']['up']['bias'])
  np.testing.assert_allclose(run(back, variables), run(model, start(model)), atol=1e-6)


def test_bare_names_old_masks_and_a_tied_head_are_accepted(folder):
  def edit(tensors):
    for name in list(tensors):
      tensors[name.removeprefix('transformer.')] = tensors.pop(name)
    tensors['h.1.attn.bias'] = np.ones((1, 1, 16, 16))
    tensors['h.0.attn.masked_bias'] = np.ones(())
    tensors['lm_head.weight'] = tensors['wte.weight']

  rewrite(folder, edit)
  model, variables = huggingface.from_hf(folder)
  assert model.tied
  assert_same(variables, start(MODEL))


def test_a_head_that_differs_from_the_embedding_makes_the_model_untied(folder):
  rewrite(folder, lambda tensors: tensors.update({'lm_head.weight': np.ones((37, 12))}))
  model, variables = huggingface.from_hf(folder)
  assert not model.tied
  assert np.all(variables['params']['head']['embedding'] == 1)


def test_shards_are_read_by_their_index(folder):
  tensors = load_file(folder / 'model.safetensors')
  names = sorted(tensors)
  shards = {'a.safetensors': names[::2], 'b.safetensors': names[1::2]}
  for shard, own in shards.items():
    save_file({name: tensors[name] for name in own}, folder / shard)
  (folder / 'model.safetensors').unlink()
  index = {'weight_map': {name: shard for shard, own in shards.items() for name in own}}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert_same(huggingface.from_hf(folder)[1], start(MODEL))
  (folder / 'b.safetensors').unlink()
  with pytest.raises(ValueError, match=r'b.safetensors: no such file'):
    huggingface.from_hf(folder)


def test_what_is_about_running_can_be_chosen_at_import(folder):
  model, _ = huggingface.from_hf(folder, dtype='bfloat16', dropout=0.0, remat='block')
  assert (model.dtype, model.dropout, model.remat) == ('bfloat16', 0.0, 'block')
  with pytest.raises(ValueError, match=r"norm='rms': choose from dropout, attention, scan"):
    huggingface.from_hf(folder, norm='rms')


# -------- refusals --------


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'model_type': 'bert'}, r"model_type='bert' is not supported, only 'gpt2', 'llama'"),
    (
      {'activation_function': 'gelu'},
      r"activation_function='gelu' is not supported, only 'gelu_new'",
    ),
    ({'layer_norm_epsilon': 1e-6}, r'layer_norm_epsilon=1e-06 is not supported, only 1e-05'),
    ({'scale_attn_by_inverse_layer_idx': True}, r'inverse_layer_idx=True is not supported, only F'),
    ({'scale_attn_weights': False}, r'scale_attn_weights=False is not supported'),
    ({'add_cross_attention': True}, r'add_cross_attention=True is not supported'),
    ({'quantization_config': {'bits': 4}}, r'quantization_config=.* is not supported'),
    ({'attn_pdrop': 0.3}, r'embd_pdrop=0.1, attn_pdrop=0.3 are not supported, only equal ones'),
    ({'n_layer': 'two'}, r"n_layer='two' should be a whole number"),
    ({'n_head': 5}, r'model.heads=5: must divide model.width=12'),
    ({'n_layer': 3}, r'lacks h.2.ln_1.weight, h.2.ln_1.bias, h.2.attn.c_proj.weight and 9 more'),
    ({'n_layer': 1}, r'holds h.1.*, which a GPT-2 of its config.json has not'),
    (
      {'n_positions': 9},
      r'wpe.weight is of shape \(16, 12\), of a GPT-2 of its config.json it should be \(9, 12\)',
    ),
    ({'tie_word_embeddings': False}, r'lacks lm_head.weight'),
  ],
)
def test_settings_that_are_not_honoured_are_refused(settings, message, folder):
  edit_config(folder, **settings)
  with pytest.raises(ValueError, match=message) as error:
    huggingface.from_hf(folder)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'edit, message',
  [
    (
      lambda t: t.pop('transformer.h.0.attn.c_attn.bias'),
      r'lacks h.0.attn.c_attn.bias of a GPT-2 of its config.json$',
    ),
    (lambda t: t.update({'score.weight': np.ones(3)}), r'holds score.weight, which a GPT-2'),
    (
      lambda t: t.update({'transformer.ln_f.bias': np.ones(3)}),
      r'ln_f.bias is of shape \(3,\), of a GPT-2 of its config.json it should be \(12,\)',
    ),
  ],
)
def test_tensors_that_are_missing_unknown_or_misshapen_are_named(edit, message, folder):
  rewrite(folder, edit)
  with pytest.raises(ValueError, match=message):
    huggingface.from_hf(folder)


def test_folders_that_are_none_are_refused(folder):
  weights, config = folder / 'model.safetensors', folder / 'config.json'
  with pytest.raises(ValueError, match=r'nowhere: no such folder'):
    huggingface.from_hf(folder / 'nowhere')
  weights.unlink()
  with pytest.raises(ValueError, match=r'holds neither model.safetensors nor'):
    huggingface.from_hf(folder)
  (folder / 'pytorch_model.bin').touch()
  with pytest.raises(ValueError, match=r'.bin: is neither safetensors nor a whole file'):
    huggingface.from_hf(folder)
  config.write_text('{')
  with pytest.raises(ValueError, match=r'config.json: not JSON'):
    huggingface.from_hf(folder)
  config.unlink()
  with pytest.raises(ValueError, match=r'config.json: no such file'):
    huggingface.from_hf(folder)


@pytest.mark.parametrize('size', [0, 3, 100, -1])
def test_files_that_are_cut_short_are_refused(size, folder):
  path = folder / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match=r'model.safetensors: .*(cut short|no safetensors file)'):
    huggingface.from_hf(folder)


@pytest.mark.parametrize(
  'content', [b'version https://somewhere\noid 1234', (4).to_bytes(8, 'little') + b'[1]]']
)
def test_files_of_something_else_are_refused(content, folder):
  (folder / 'model.safetensors').write_bytes(content)
  with pytest.raises(ValueError, match=r'model.safetensors: .*not a safetensors file'):
    huggingface.from_hf(folder)


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'norm_epsilon': 1e-6}, r'model.norm_epsilon=1e-06: GPT-2 files can only say 1e-05'),
    ({'norm': 'rms'}, r"model.norm='rms': GPT-2 files"),
    ({'mlp': 'swiglu'}, r"model.mlp='swiglu': GPT-2 files"),
    ({'qk_norm': True}, r'model.qk_norm=True: GPT-2 files'),
    ({'softcap': 30.0}, r'model.softcap=30.0: GPT-2 files'),
    ({'kv_heads': 1}, r'model.kv_heads=1: GPT-2 files can only say 3'),
  ],
)
def test_models_that_gpt2_files_cannot_say_are_refused(kwargs, message, tmp_path):
  model = MODEL.clone(**{'positions': 'learned', **kwargs})
  with pytest.raises(ValueError, match=message):
    huggingface.to_hf(model, {'params': {}}, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_subclass_is_refused_whatever_it_computes(tmp_path):
  class Other(GPT):
    pass

  with pytest.raises(ValueError, match='Other: GPT-2 files can only say GPT'):
    huggingface.to_hf(Other(37), {'params': {}}, tmp_path / 'out')


# -------- files of tensors --------


def test_tensors_are_read_one_by_one(folder, monkeypatch):
  """Their shapes are known before, and a file of no use costs no memory."""
  read = []
  array = safetensors_folder.SafeTensor.__array__

  def counted(self, *args, **kwargs):
    read.append(self.name)
    return array(self, *args, **kwargs)

  monkeypatch.setattr(safetensors_folder.SafeTensor, '__array__', counted)
  tensors = Files(folder).tensors
  assert tensors['transformer.wte.weight'].shape == (37, 12) and not read
  huggingface.from_hf(folder)
  assert sorted(read) == sorted(tensors)


def test_half_precision_is_converted_exactly(folder):
  def edit(tensors):
    for name, x in tensors.items():
      tensors[name] = x.astype(ml_dtypes.bfloat16)

  rewrite(folder, edit)
  _, variables = huggingface.from_hf(folder)
  halves = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16).astype('f4'), start(MODEL))
  assert_same(variables, halves)


def test_an_export_copies_little(folder, monkeypatch):
  """Every tensor but the joined queries, keys and values is a view of a parameter."""
  params = start(MODEL)['params']
  tensors = layout.to_theirs(gpt2.FAMILY, MODEL, params)
  leaves = jax.tree.leaves(params)
  copied = [n for n, x in tensors.items() if not any(np.shares_memory(x, p) for p in leaves)]
  assert all('c_attn' in name for name in copied) and len(copied) == 4
