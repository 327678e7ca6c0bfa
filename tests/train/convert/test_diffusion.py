"""Public diffusion models as run folders, which are drawn from without their set."""

import json
import shutil

import numpy as np
import pytest

from train import convert, verbs
from train.convert import diffusion
from train.errors import UserError

torch = pytest.importorskip('torch')

from tests.models.weights import dit_of_the_authors  # noqa: E402
from tests.models.weights.torch_networks import randomise  # noqa: E402

pytestmark = pytest.mark.usefixtures('one_device')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))  # where nothing is


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory):
  """A small DDPM as diffusers saves a pipeline: unet/ and scheduler/."""
  diffusers = pytest.importorskip('diffusers')
  module = diffusers.UNet2DModel(
    sample_size=8,
    block_out_channels=(16, 16),
    down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
    up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    layers_per_block=1,
    norm_num_groups=4,
  )
  scheduler = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule='squaredcos_cap_v2')
  folder = tmp_path_factory.mktemp('ddpm')
  diffusers.DDPMPipeline(randomise(module), scheduler).save_pretrained(folder)
  return folder, module, scheduler


@pytest.mark.long
def test_ddpm_predicts_what_diffusers_predicts(pipeline, tmp_path, capsys):
  """The noise that it predicts is theirs; images are drawn without the data set."""
  folder, module, _ = pipeline
  workdir = str(tmp_path / 'run')
  convert.import_weights(str(folder), workdir)
  assert 'a U-Net for 8 x 8 x 3, ddpm(steps=100, schedule=cosine)' in capsys.readouterr().out
  overrides = {'task.sampling.num_steps': '10'}
  run = verbs.load_run(workdir, overrides=overrides)
  denoiser = run.task.denoiser(run.variables, as_trained=True)  # without clipping
  x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype('f4')
  t = np.full(2, 0.5, 'f4')  # step 50 of 100
  with torch.no_grad():
    eps = module(torch.tensor(x).permute(0, 3, 1, 2), 49).sample.permute(0, 2, 3, 1).numpy()
  alpha, sigma = run.task.process.alpha(t[0]), run.task.process.sigma(t[0])
  found = (x - alpha * np.asarray(denoiser.x0(x, t))) / sigma
  np.testing.assert_allclose(found, eps, atol=1e-3)
  verbs.sample(workdir, overrides=overrides, options={'samples': 2})
  assert (tmp_path / 'run' / 'samples' / 'grid-0.png').exists()
  with pytest.raises((UserError, ValueError), match=r"data.data_dir is not set: dataset 'folder'"):
    verbs.evaluate([workdir])


@pytest.mark.long
def test_the_process_is_the_schedulers(pipeline, tmp_path):
  """The products of 1 - beta, step by step."""
  folder, _, scheduler = pipeline
  workdir = str(tmp_path / 'run')
  convert.import_weights(str(folder), workdir)
  bars = verbs.load_run(workdir).task.process.alpha_bars
  np.testing.assert_allclose(bars, scheduler.alphas_cumprod.numpy(), rtol=1e-4)


@pytest.mark.parametrize(
  ('settings', 'expected'),
  [
    ({}, {'process': 'ddpm', 'prediction': 'eps'}),
    ({'beta_start': 0.001, 'beta_end': 0.03}, {'process': 'ddpm(beta_min=0.001, beta_max=0.03)'}),
    ({'prediction_type': 'v_prediction'}, {'prediction': 'v'}),
    ({'prediction_type': 'sample'}, {'prediction': 'x0'}),
  ],
)
def test_schedulers(settings, expected):
  network = diffusion.Network({'learned_variance': False}, {}, 0)
  task = diffusion.task_of(settings, network)
  assert {name: task[name] for name in expected} == expected


def test_settings_of_a_scheduler_that_are_not_honoured(pipeline, tmp_path):
  folder = tmp_path / 'ddpm'
  shutil.copytree(pipeline[0], folder)
  path = folder / 'scheduler' / 'scheduler_config.json'
  config = json.loads(path.read_text())
  for settings, message in (
    ({'beta_schedule': 'scaled_linear'}, "beta_schedule='scaled_linear' is not supported, only"),
    ({'num_train_timesteps': 'x'}, 'steps'),
    ({'beta_schedule': 'linear', 'beta_start': '"'}, 'task.process'),
  ):
    path.write_text(json.dumps({**config, **settings}))
    with pytest.raises(UserError, match=message) as caught:
      convert.import_weights(str(folder), str(tmp_path / 'run'))
    assert '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()


def test_averaged_weights_come_first(pipeline, tmp_path, capsys):
  folder = tmp_path / 'ddpm'
  shutil.copytree(pipeline[0], folder)
  shutil.copytree(folder / 'unet', folder / 'unet_ema')
  convert.import_weights(str(folder), str(tmp_path / 'run'))
  assert 'schedule=cosine), averaged, from' in capsys.readouterr().out


@pytest.mark.long
def test_dit_draws_latents(tmp_path, capsys):
  module = dit_of_the_authors.DiT()
  torch.save(module.state_dict(), tmp_path / 'dit.pt')
  workdir = str(tmp_path / 'run')
  convert.import_weights(str(tmp_path / 'dit.pt'), workdir)
  assert 'a DiT of 2 layers and 2 heads for latents 8 x 8 x 4' in capsys.readouterr().out
  options = {'samples': 3, 'label': ('1', '4'), 'latents': True}
  verbs.sample(workdir, overrides={'task.sampling.num_steps': '4'}, options=options)
  latents = np.load(tmp_path / 'run' / 'samples' / 'latents-0.npy')
  assert latents.shape == (6, 8, 8, 4) and latents.dtype == np.float32
  with pytest.raises(UserError, match=r'--interpolate and --latents: one of them'):
    verbs.sample(workdir, options={'latents': True, 'interpolate': True})
