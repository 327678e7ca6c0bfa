"""Diffusion models: processes, losses, samplers, likelihoods, and the networks.

Everything is written for any process x_t = alpha(t) x_0 + sigma(t) eps and any prediction of the
network, in the symbols of the papers. Two evenings:

The first is the method, from noise to images.

1. `process`: the contract of a process; `processes`: VE, VP, sub-VP, DDPM, EDM, rectified flow.
2. `parameterization`: what a network predicts (eps, x_0, v, score, flow, EDM's F), and conversions.
3. `denoiser`: the contracts. A `Denoiser` is all that samplers and likelihoods know of a model; a
   `DenoisingNetwork` is what a network is called with.
4. `losses`: training times, weightings, and the losses.
5. `timesteps`, `solvers`: timestep schedules, and each sampler as a table of coefficients;
   `checks`: whether these fit the process, and float32.
6. `table_sampler`, `samplers`: the one loop that runs tables, and the samplers by name.

The second is the networks, and what else a trained model is good for.

7. `conditioning`, `unet_blocks`, `unet`, `dit`, `text_encoder`; `networks` names them for configs.
8. `guidance`: classifier-free and classifier guidance, thresholds, inpainting, colourisation.
9. `ode`, `likelihood`, `vlb`: the adaptive solver; bits per dimension by ODE and by bound.
10. `consistency`: distillation into one step.
11. `quality`, `inception`: Frechet and kernel distances, precision and recall; the network of FID.

Imports `models.layers`, `models.ops`, `models.attention` and `models.gpt`. Imported by
`train.tasks.diffusion`, benchmarks and tests.
"""
