"""Folders of safetensors that hold what they should not: one line each, and nothing is guessed."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.gpt import huggingface
from tests.models.gpt import test_huggingface
from tests.models.gpt.test_huggingface import MODEL, edit_config, rewrite, start

folder = test_huggingface.folder  # a fixture: our own export of MODEL
INDEX = 'model.safetensors.index.json'


def refused(folder, message):
  with pytest.raises(ValueError, match=message) as caught:
    huggingface.from_hf(folder)
  assert str(folder) in str(caught.value) and '\n' not in str(caught.value)


def renamed(folder, **names):
  """Renames keys of config.json."""
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  path.write_text(json.dumps({names.get(key, key): value for key, value in config.items()}))


@pytest.mark.parametrize(
  'names',
  [
    {'n_embd': 'hidden_size', 'n_layer': 'num_hidden_layers', 'n_head': 'num_attention_heads'},
    {'n_positions': 'max_position_embeddings'},
    {'n_positions': 'n_ctx', 'n_ctx': 'other'},
  ],
)
def test_other_names_of_sizes_mean_the_same(folder, names):
  renamed(folder, **names)
  model, variables = huggingface.from_hf(folder)
  assert model == MODEL.clone(mlp_width=None)
  jax.tree.map(np.testing.assert_array_equal, variables, start(MODEL))


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'hidden_size': 24}, 'n_embd=12, hidden_size=24 contradict each other'),
    ({'n_inner': 'x'}, "n_inner='x' should be a whole number"),
    ({'n_layer': True}, 'n_layer=True should be a whole number'),
    ({'n_layer': 0}, 'n_layer=0 should be a whole number of at least 1'),
    ({'n_layer': 10**9}, 'holds 28 tensors, too few for 1000000000 layers'),
    ({'vocab_size': 2**63}, 'vocab_size=9223372036854775808 should be a whole number'),
    ({'resid_pdrop': 'x'}, "resid_pdrop='x', embd_pdrop=0.1, .* only equal ones"),
    ({'tie_word_embeddings': 'x'}, "tie_word_embeddings='x' is not supported, only True, False"),
    ({'activation_function': ['x' * 999]}, r"activation_function=\['xxx.{,60}\.\.\. is not"),
  ],
)
def test_settings_of_another_type_are_named(folder, settings, message):
  edit_config(folder, **settings)
  refused(folder, message)


@pytest.mark.parametrize('dtype', ['int8', 'uint8', 'bool', 'float8_e4m3fn', 'complex64'])
def test_quantised_tensors_are_refused(folder, dtype):
  ml_dtypes = pytest.importorskip('ml_dtypes')
  kind = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
  rewrite(
    folder, lambda tensors: tensors.update({'transformer.wte.weight': np.ones((37, 12), kind)})
  )
  refused(folder, r'wte.weight is of type \w+; must be one of F64, F32, F16, BF16')


def test_deep_json_is_refused(folder):
  (folder / 'config.json').write_text('[' * 100_000)
  refused(folder, 'config.json: not JSON')


def test_the_same_tensor_under_two_names_is_refused(folder):
  rewrite(folder, lambda tensors: tensors.update({'wpe.weight': np.zeros((16, 12), 'f4')}))
  refused(folder, 'holds both wpe.weight and transformer.wpe.weight')


def test_a_tied_weight_may_have_the_name_of_the_head(folder):
  def rename(tensors):
    tensors['lm_head.weight'] = tensors.pop('transformer.wte.weight')

  rewrite(folder, rename)
  _, variables = huggingface.from_hf(folder)
  jax.tree.map(np.testing.assert_array_equal, variables, start(MODEL))


# -------- shards --------


@pytest.fixture
def sharded(folder):
  """The same in two files and an index."""
  tensors = load_file(folder / 'model.safetensors')
  (folder / 'model.safetensors').unlink()
  names = sorted(tensors)
  parts = {'a.safetensors': names[:9], 'b.safetensors': names[9:]}
  for shard, own in parts.items():
    save_file({name: tensors[name] for name in own}, folder / shard)
  write_index(folder, {name: shard for shard, own in parts.items() for name in own})
  return folder


def write_index(folder, weight_map):
  (folder / INDEX).write_text(json.dumps({'weight_map': weight_map}))


def change_index(folder, change):
  weight_map = json.loads((folder / INDEX).read_text())['weight_map']
  change(weight_map)
  write_index(folder, weight_map)


def test_shards_are_read_as_the_index_says(sharded):
  _, variables = huggingface.from_hf(sharded)
  jax.tree.map(np.testing.assert_array_equal, variables, start(MODEL))


@pytest.mark.parametrize('weight_map', [-1, [], None, {'wte.weight': 5}])
def test_an_index_of_another_type_is_refused(sharded, weight_map):
  write_index(sharded, weight_map)
  refused(sharded, 'weight_map must name the file of each tensor')


def test_an_index_stays_in_its_folder(sharded, tmp_path_factory):
  outside = tmp_path_factory.mktemp('outside')
  shutil.copy(sharded / 'b.safetensors', outside)
  (sharded / 'linked').symlink_to(outside)
  (sharded / 'link.safetensors').symlink_to(outside / 'b.safetensors')
  there = os.path.relpath(outside, sharded)
  leading_out = (
    f'{outside}/b.safetensors', f'{there}/b.safetensors', 'linked/b.safetensors', 'link.safetensors'
  )  # fmt: skip
  for shard in leading_out:
    change_index(
      sharded, lambda names, shard=shard: names.update({'transformer.wte.weight': shard})
    )
    refused(sharded, 'weight_map names .* outside the folder')


def test_links_of_hugging_faces_cache_are_followed(sharded, tmp_path):
  blobs, snapshot = tmp_path / 'models--x' / 'blobs', tmp_path / 'models--x' / 'snapshots' / '1'
  blobs.mkdir(parents=True)
  snapshot.mkdir(parents=True)
  for i, path in enumerate(sorted(x for x in sharded.iterdir() if x.is_file())):
    shutil.copy(path, blobs / str(i))
    (snapshot / path.name).symlink_to(f'../../blobs/{i}')
  _, variables = huggingface.from_hf(snapshot)
  jax.tree.map(np.testing.assert_array_equal, variables, start(MODEL))


def test_an_index_that_does_not_fit_its_shards_is_refused(sharded):
  whole = (sharded / INDEX).read_text()
  change_index(sharded, lambda names: names.update({'transformer.wte.weight': 'a.safetensors'}))
  refused(sharded, 'says that a.safetensors holds transformer.wte.weight, which it does not')
  (sharded / INDEX).write_text(whole)
  change_index(sharded, lambda names: names.pop('transformer.wte.weight'))
  refused(sharded, 'b.safetensors: holds transformer.wte.weight, which .* does not place there')
  (sharded / INDEX).write_text(whole)
  (sharded / 'b.safetensors').unlink()
  refused(sharded, 'b.safetensors: no such file')


# -------- a file's header --------


def write_header(folder, change):
  raw = (folder / 'model.safetensors').read_bytes()
  size = int.from_bytes(raw[:8], 'little')
  header = json.loads(raw[8 : 8 + size])
  change(header)
  text = json.dumps(header).encode()
  (folder / 'model.safetensors').write_bytes(
    len(text).to_bytes(8, 'little') + text + raw[8 + size :]
  )


WPE, WTE = 'transformer.wpe.weight', 'transformer.wte.weight'


@pytest.mark.parametrize(
  'change',
  [
    lambda header: header[WTE].update(data_offsets=[0, 2**40]),
    lambda header: header[WTE].update(data_offsets=header[WPE]['data_offsets']),
    lambda header: header[WTE].update(dtype='F7'),
    lambda header: header[WTE].update(shape=[]),
    lambda header: header[WTE].update(shape=[-1, 12]),
    lambda header: header[WTE].update(shape=[2**62, 2**62]),
    lambda header: header.update({WTE: 5}),
    lambda header: header.clear(),
  ],
)
def test_a_header_that_lies_is_refused(folder, change):
  write_header(folder, change)
  refused(folder, 'cut short, or not a safetensors file')


@pytest.mark.parametrize('size', [2**63, 10**9, 2])
def test_the_length_of_a_header_that_lies_is_refused(folder, size):
  raw = (folder / 'model.safetensors').read_bytes()
  (folder / 'model.safetensors').write_bytes(size.to_bytes(8, 'little') + raw[8:])
  refused(folder, 'cut short, or not a safetensors file')


def test_an_empty_tensor_does_not_fit(folder):
  rewrite(folder, lambda tensors: tensors.update({WTE: np.zeros((0, 12), 'f4')}))
  refused(
    folder,
    r'wte.weight is of shape \(0, 12\), of a GPT-2 of its config.json it should be \(37, 12\)',
  )
