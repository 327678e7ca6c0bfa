"""diffusers' UNet2DModel in PyTorch: what our U-Net is measured against."""

from typing import Any

import diffusers
import torch
import torch.nn.functional as F

NOISES = 1000  # levels in training
LAYOUTS = {'nchw': torch.contiguous_format, 'channels_last': torch.channels_last}


def unet(shape, image):
  """Returns the model of the sizes that `benchmarks/diffusion.py` names, for images [H, W, C]."""
  size, _, channels = image
  levels = len(shape['channel_multipliers'])
  attends = [size >> level in shape['attention_resolutions'] for level in range(levels)]
  down, up = (
    [f'{"Attn" * a}{way}Block2D' for a in order]
    for way, order in (('Down', attends), ('Up', attends[::-1]))
  )
  return diffusers.UNet2DModel(
    sample_size=size,
    in_channels=channels,
    out_channels=channels,
    layers_per_block=shape['num_res_blocks'],
    block_out_channels=[shape['channels'] * m for m in shape['channel_multipliers']],
    down_block_types=down,
    up_block_types=up,
    norm_num_groups=shape['groups'],
    attention_head_dim=shape['head_width'],
  )


def prepared(shape, image, batch, layout, compiled):
  """Returns the model, the function that runs it, and images."""
  memory = LAYOUTS[layout]
  model = unet(shape, image).to(memory_format=memory)
  images = torch.randn(batch, image[2], *image[:2]).to(memory_format=memory)
  return model, torch.compile(model) if compiled else model, images


def training(shape, image, batch, *, layout, compiled, fused):
  """Returns a function of n training steps, and the number of parameters."""
  model, run, images = prepared(shape, image, batch, layout, compiled)
  parameters = list(model.train().parameters())
  average = [p.detach().clone() for p in parameters]
  optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=fused)
  noising: Any = diffusers.DDPMScheduler(NOISES)

  def burst(steps):
    for _ in range(steps):
      noise, t = torch.randn_like(images), torch.randint(NOISES, (batch,))
      loss = F.mse_loss(run(noising.add_noise(images, noise, t), t).sample, noise)
      loss.backward()
      optimizer.step()
      optimizer.zero_grad(set_to_none=True)
      torch._foreach_lerp_(average, [p.detach() for p in parameters], 1e-3)
    loss.item()

  return burst, sum(p.numel() for p in parameters)


def sampling(shape, image, batch, steps, some, *, layout, compiled):
  """Returns a function of n times `some` of DDIM's `steps`, and the number of parameters."""
  model, run, start = prepared(shape, image, batch, layout, compiled)
  model.eval()
  scheduler: Any = diffusers.DDIMScheduler(NOISES, clip_sample=False)
  scheduler.set_timesteps(steps)

  @torch.inference_mode()
  def burst(calls):
    for _ in range(calls):
      x = start
      for t in scheduler.timesteps[:some]:
        x = scheduler.step(run(x, t).sample, t, x).prev_sample
      x.sum().item()

  return burst, sum(p.numel() for p in model.parameters())
