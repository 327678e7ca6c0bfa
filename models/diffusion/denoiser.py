"""The two contracts around a diffusion model's network.

`DenoisingNetwork` is what a network is called with. `Denoiser` is what samplers, likelihoods,
guidance and distillation know of a model: whatever its network predicts, of whatever process, it
answers with x_0, eps, the score or the velocity. `NetworkDenoiser` makes the second of the first,
or of any function of (x, t), such as a score in closed form:

  NetworkDenoiser(processes.VP(), score, 'score')
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from jax import Array

from models.diffusion.parameterization import c_in, convert, to_x0
from models.diffusion.process import Process, expand_like

# A prediction `[B, ...]`, or a pair (prediction, v) where the reverse variance is learned too. v is
# `[B, ...]` in about [0, 1] and interpolates the variance's logarithm (Nichol 2021, eq. 15).
Output = Array | tuple[Array, Array]


def split_output(out: Output) -> tuple[Array, Array | None]:
  """Returns (prediction, v), with None for v where the variance is not learned."""
  return out if isinstance(out, tuple) else (out, None)


class Denoiser(Protocol):
  """A model of E[x_0 | x_t], asked in any parameterization.

  In all methods x is x_t `[B, ...]` and t the times `[B]`, t_min <= t <= T of the process. Results
  are `[B, ...]`; an example's result depends on that example alone.
  """

  @property
  def process(self) -> Process:
    """The process whose noise is removed."""
    ...

  def x0(self, x: Array, t: Array) -> Array:
    """Returns the expected clean image, D(x; sigma) of Karras 2022."""
    ...

  def x0_and_v(self, x: Array, t: Array) -> tuple[Array, Array | None]:
    """Returns the expected clean image, and v of the learned variance or None."""
    ...

  def eps(self, x: Array, t: Array) -> Array:
    """Returns the expected noise, (x - alpha x_0) / sigma."""
    ...

  def score(self, x: Array, t: Array) -> Array:
    """Returns the gradient of log p_t(x), -eps / sigma."""
    ...

  def velocity(self, x: Array, t: Array) -> Array:
    """Returns dx/dt of the probability flow ODE (Song 2021, eq. 13)."""
    ...


@dataclasses.dataclass(frozen=True)
class NetworkDenoiser:
  """A `Denoiser` made of a process and a function that predicts.

  predict: maps (c_in(t) x_t `[B, ...]`, t `[B]`) to an `Output`.
  prediction: what `predict` returns, a name of `parameterization.PREDICTIONS`.
  """

  process: Process
  predict: Callable[[Array, Array], Output]
  prediction: str = 'eps'

  def outputs(self, x: Array, t: Array) -> tuple[Array, Array | None]:
    """Returns the prediction `[B, ...]` as the network makes it, and v or None."""
    scale = expand_like(c_in(self.process, self.prediction, t), x)
    return split_output(self.predict(scale * x, t))

  def x0_and_v(self, x: Array, t: Array) -> tuple[Array, Array | None]:
    value, v = self.outputs(x, t)
    return to_x0(self.process, self.prediction, x, t, value), v

  def _convert(self, to: str, x: Array, t: Array) -> Array:
    return convert(self.process, self.prediction, to, x, t, self.outputs(x, t)[0])

  def x0(self, x: Array, t: Array) -> Array:
    return self._convert('x0', x, t)

  def eps(self, x: Array, t: Array) -> Array:
    return self._convert('eps', x, t)

  def score(self, x: Array, t: Array) -> Array:
    return self._convert('score', x, t)

  def velocity(self, x: Array, t: Array) -> Array:
    return self._convert('flow', x, t)


class DenoisingNetwork(Protocol):
  """The network of a diffusion model, a linen module such as `unet.UNet` and `dit.DiT`.

  It takes every input below; one that it was not made for must be None or is refused with a
  ValueError. `models.DENOISING_NETWORKS` lists the networks that keep this contract.
  """

  @property
  def num_classes(self) -> int:
    """Labels are 0..num_classes - 1; 0 for a network that takes no labels."""
    ...

  @property
  def context_width(self) -> int:
    """D of the context; 0 for a network without cross-attention."""
    ...

  @property
  def learned_variance(self) -> bool:
    """Whether the output has 2 C channels: the prediction, then v."""
    ...

  def init(self, key: Array, x: Array, c_noise: Array, /) -> Any:
    """Returns fresh variables for inputs of this shape."""
    ...

  def apply(
    self,
    variables: Any,
    x: Array,
    c_noise: Array,
    /,
    *,
    label: Array | None,
    context: Array | None,
    mask: Array | None,
    train: bool,
    rngs: Any,
  ) -> Any:
    """Returns the network's output, float32 `[B, H, W, C]` or `[B, H, W, 2 C]`.

    Args:
      variables: as `init` makes them.
      x: `[B, H, W, C]` the noisy images, already scaled by c_in.
      c_noise: float `[B]` the noise level as `Process.c_noise` gives it.
      label: int `[B]`, -1 where an image has no label; or None for no labels.
      context: `[B, L, D]` what cross-attention reads, such as an encoded caption; or None.
      mask: bool `[B, L]`, which positions of the context exist; None for all. A row without any
        has no context.
      train: whether dropout acts, with the key `rngs['dropout']`.
      rngs: keys by name, or None.
    """
    ...
