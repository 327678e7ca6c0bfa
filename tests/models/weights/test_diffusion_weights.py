"""diffusers' U-Net and the authors' DiT compute the same here, layer by layer."""

import json

import numpy as np
import pytest

import models
from models.weights import dit, unet
from models.weights.files import Files

torch = pytest.importorskip('torch')

from tests.models.weights import dit_of_the_authors, layers  # noqa: E402
from tests.models.weights.torch_networks import randomise  # noqa: E402

DDPM = {
  'sample_size': 16,
  'block_out_channels': (16, 32),
  'down_block_types': ('DownBlock2D', 'AttnDownBlock2D'),
  'up_block_types': ('AttnUpBlock2D', 'UpBlock2D'),
  'layers_per_block': 1,
  'norm_num_groups': 4,
}
# Beside it: the settings of google's models, and diffusers' own defaults.
GOOGLE = {
  'attention_head_dim': None,
  'norm_eps': 1e-6,
  'downsample_padding': 0,
  'flip_sin_to_cos': False,
  'freq_shift': 1,
}


def unet_of(folder, **settings):
  diffusers = pytest.importorskip('diffusers')
  module = randomise(diffusers.UNet2DModel(**{**DDPM, **settings}))
  module.save_pretrained(folder)
  return module


def same_unet(module, network, size=16):
  x, t = layers.images(size), np.array([3, 900])
  label = np.array([0, 4]) if network.num_classes else None
  given = {} if label is None else {'class_labels': torch.tensor(label)}
  wanted = layers.theirs(module, x, torch.tensor(t), **given)
  ours = layers.ours(network, x, t.astype('f4'), label)
  layers.close(ours[''], wanted['conv_out'])
  names = {
    **{'down0_0': 'down_blocks.0.resnets.0', 'down0_resample': 'down_blocks.0.downsamplers.0'},
    **{'down1_0_attention': 'down_blocks.1.attentions.0', 'middle_1': 'mid_block.resnets.1'},
    **{'up1_0': 'up_blocks.0.resnets.0', 'up1_resample': 'up_blocks.0.upsamplers.0'},
    **{'up0_1': 'up_blocks.1.resnets.1', 'conv_in': 'conv_in'},
  }
  for name, other in names.items():
    layers.close(ours[name], wanted[other])


@pytest.mark.long
@pytest.mark.parametrize(
  'settings',
  [
    GOOGLE,
    {},
    {'norm_num_groups': 16},
    {'num_class_embeds': 5},
    {'out_channels': 6},
  ],
  ids=['google', 'defaults', 'narrow groups', 'labels', 'learned variance'],
)
def test_a_unet_of_diffusers(settings, tmp_path):
  module = unet_of(tmp_path, **settings)
  files = Files(tmp_path)
  assert unet.recognises(files)
  network, size = unet.read(files)
  assert size == 16
  same_unet(module, network)


@pytest.mark.long
def test_attention_of_2022_has_other_names(tmp_path):
  module = unet_of(tmp_path, **GOOGLE)
  state = module.state_dict()
  names = {'to_q': 'query', 'to_k': 'key', 'to_v': 'value', 'to_out.0': 'proj_attn'}
  for new, old in names.items():
    state = {name.replace(new, old): x for name, x in state.items()}
  (tmp_path / 'diffusion_pytorch_model.safetensors').unlink()
  torch.save(state, tmp_path / 'diffusion_pytorch_model.bin')
  same_unet(module, unet.read(Files(tmp_path))[0])


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'time_embedding_type': 'fourier'}, "time_embedding_type='fourier' is not supported, only"),
    ({'norm_eps': 'x'}, "norm_eps='x' should be between 0 and 1"),
    ({'block_out_channels': [16, 24]}, r'block_out_channels=\[16, 24\] should be multiples'),
    ({'block_out_channels': [16] * 999}, 'block_out_channels=.* should be multiples'),
    ({'sample_size': None}, 'sample_size=None should be a whole number'),
    ({'layers_per_block': 4000}, 'holds too few tensors'),
    ({'up_block_types': ['UpBlock2D'] * 2}, 'should mirror each other'),
    ({'up_block_types': ['UpBlock2D', 7]}, 'up_block_types has 7; choose from'),
    ({'out_channels': 4}, 'out_channels=4 should be 3 or twice that'),
    ({'sample_size': 15}, 'images of 15 x 15'),
    ({'in_channels': 1, 'out_channels': 1}, r'conv_in.weight is of shape \(16, 3, 3, 3\)'),
  ],
)
def test_settings_that_are_not_honoured(settings, message, tmp_path):
  unet_of(tmp_path)
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
  with pytest.raises(ValueError, match=message):
    unet.read(Files(tmp_path))


# -------- DiT --------


@pytest.fixture
def authors(tmp_path):
  module = randomise(dit_of_the_authors.DiT())
  fresh = dit_of_the_authors.DiT()
  module.pos_embed.data = fresh.pos_embed.data
  return module


@pytest.mark.long
def test_dit_of_the_authors(authors, tmp_path):
  torch.save(
    {'model': dit_of_the_authors.DiT().state_dict(), 'ema': authors.state_dict()},
    tmp_path / 'dit.pt',
  )
  files = Files(tmp_path / 'dit.pt')
  assert dit.recognises(files)
  network, size = dit.read(files)
  assert (size, network.num_classes, files.part) == (8, 5, 'ema')
  x, t = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype('f4'), np.array([0.0, 17, 999])
  with torch.no_grad():
    y = authors(
      torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(t).float(), torch.tensor([0, 4, 5])
    )
  net = models.build(**network.section, num_classes=network.num_classes)
  found = net.apply(network.variables, x, t.astype('f4'), np.array([0, 4, -1]))
  layers.close(np.asarray(found), y.permute(0, 2, 3, 1).numpy())


def test_other_positions_are_refused(authors, tmp_path):
  authors.pos_embed.data = authors.pos_embed.data.roll(64, -1)
  torch.save(authors.state_dict(), tmp_path / 'dit.pt')
  with pytest.raises(ValueError, match='pos_embed holds other positions'):
    dit.read(Files(tmp_path / 'dit.pt'))
