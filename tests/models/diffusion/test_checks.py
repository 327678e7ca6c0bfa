"""Settings that float32 cannot hold, or that do not fit each other, are refused by name."""

import jax
import numpy as np
import pytest

from models.diffusion import checks, losses, parameterization, processes, samplers, timesteps
from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.process import Process

PAPERS = [
  processes.VE(),
  processes.VP(),
  processes.SubVP(),
  processes.DDPM(),
  processes.DDPM(schedule='cosine'),
  processes.EDM(),
  processes.Flow(),
]


@pytest.mark.parametrize('process', PAPERS, ids=repr)
def test_processes_and_schedules_of_the_papers_fit(process):
  checks.check_process(process)
  for name in timesteps.TIMESTEP_SCHEDULES:
    for num_steps in (2, 50, 1000):
      checks.check_timesteps(process, timesteps.timesteps(name, process, num_steps))


def test_a_shorter_ddpm_ends_in_noise_with_larger_betas_only():
  with pytest.raises(ValueError, match=r'alpha² is 0\.364 there, and sigma / alpha 1\.32'):
    checks.check_process(processes.DDPM(steps=100))
  checks.check_process(processes.DDPM(steps=100, beta_min=0.1 / 100, beta_max=20 / 100))
  checks.check_process(processes.DDPM(steps=100, schedule='cosine'))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'steps': 100_000}, r'process\.steps=100000: from 1 to 10,000'),
    ({'schedule': 'cosine', 'beta_max': 0.1}, r'beta_max=0\.1: has no effect'),
    ({'offset': 0.1}, r"offset=0\.1: has no effect with schedule='linear'"),
    ({'schedule': 'cosine', 'offset': -0.1}, r'offset=-0\.1: from 0 to below 1'),
  ],
)
def test_impossible_chains_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    processes.DDPM(**options)


@pytest.mark.parametrize(
  'process',
  [
    processes.VE(sigma_max=1.0),
    processes.VP(beta_max=3.0),
    processes.SubVP(beta_max=3.0),
    processes.EDM(sigma_max=5.0),
    processes.Flow(T=0.8),
  ],
  ids=repr,
)
def test_what_keeps_some_of_the_image_at_its_end_is_refused(process):
  with pytest.raises(ValueError, match='does not end in the noise that samplers start from'):
    checks.check_process(process)


@pytest.mark.parametrize(
  'process',
  [
    processes.VE(sigma_min=1e-30),
    processes.VE(sigma_max=1e39),
    processes.VP(beta_max=1e30),
    processes.EDM(sigma_min=1e-46),
    processes.EDM(sigma_max=1e30),
    processes.Flow(T=1 - 1e-11),
    processes.Flow(t_min=1e-46),
  ],
  ids=repr,
)
def test_what_float32_does_not_hold_is_refused(process):
  with pytest.raises(ValueError, match='float32 does not hold'):
    checks.check_process(process)


def test_larger_images_need_more_noise():
  assert checks.kept_nats(processes.VE(sigma_max=12.0), 8 * 8) < 1
  assert checks.kept_nats(processes.VE(sigma_max=12.0), 32 * 32 * 3) == pytest.approx(
    2.67, abs=0.01
  )
  assert checks.kept_nats(processes.VE(), 32 * 32 * 3) < 0.2  # the paper's, for CIFAR-10
  assert checks.kept_nats(processes.EDM(), 64 * 64 * 3) < 0.3  # the paper's, for ImageNet-64


def test_a_prior_that_is_not_the_end_of_the_process_is_refused():
  class Narrow(processes.EDM):
    prior_std = 1.0

  with pytest.raises(ValueError, match=r'sigma\(T\)=80 is not prior_std=1'):
    checks.check_process(Narrow())


def test_timesteps_fall_from_the_end_of_the_process_in_float32():
  process: Process = processes.VP()
  for times in ([0.5, 0.1], [1.0, 1.0], [1.0, np.nan], [1.0, 1 - 1e-9], [1.0, 1e-9]):
    with pytest.raises(ValueError, match=r'2 timesteps from .*: must start at T=1 and fall'):
      checks.check_timesteps(process, np.array(times))
  for schedule in (timesteps.edm, timesteps.asinh):
    option = 'rho' if schedule is timesteps.edm else 'knee'
    for value in (0.0, -1.0, float('inf'), float('nan')):
      with pytest.raises(ValueError, match=f'timestep_schedule.{option}='):
        schedule(process, 10, **{option: value})


def test_weights_of_the_loss_are_finite():
  for weighting in losses.WEIGHTINGS:
    checks.check_loss(processes.VP(), 'eps', losses.Importance(), weighting)
  with pytest.raises(ValueError, match=r'times from .* to .* have weights'):
    checks.check_loss(processes.EDM(), 'edm', losses.LogNormal(mean=1000.0), 'edm')
  for distribution in (losses.LogNormal, losses.LogitNormal):
    with pytest.raises(ValueError, match='std=0: must be a number above 0'):
      distribution(std=0)


@pytest.mark.parametrize(
  ('sampler', 'process', 'schedule'),
  [
    (samplers.DDIM(), processes.VP(), 'uniform'),
    (samplers.Heun(churn=3.0), processes.EDM(), 'edm'),
    (samplers.Multistep(), processes.Flow(), 'asinh'),
    (samplers.DDIM(), processes.EDM(), 'uniform'),
  ],
)
def test_drawn_std_is_what_the_sampler_draws_of_gaussian_data(sampler, process, schedule):
  std = parameterization.SIGMA_DATA
  times = timesteps.timesteps(schedule, process, 20)

  def x0(x, t):
    alpha, sigma = (value.reshape(-1, 1) for value in (process.alpha(t), process.sigma(t)))
    return alpha * std**2 / ((alpha * std) ** 2 + sigma**2) * x

  keys = jax.random.split(jax.random.key(0), 8)
  denoiser = NetworkDenoiser(process, x0, 'x0')
  noise = process.prior_sample(keys, (2000,))
  found = checks.drawn_std(process, sampler.table(process, times))
  drawn = np.asarray(sampler(denoiser, noise, keys, times))
  assert drawn.std() == pytest.approx(found, rel=0.03)
  fits = not (isinstance(process, processes.EDM) and schedule == 'uniform')
  assert (0.5 < found / std < 2) == fits
