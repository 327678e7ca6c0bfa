"""Generative adversarial networks: two networks, one of which draws and one of which judges.

A generator G maps latents z to images G(z); a discriminator D gives a logit for an image being
real. Read `losses` (what each of them minimises), `latents` (z, and paths between two of them),
`mlp` (the networks of 2014) or `dcgan` (those of 2016), and `spectral` (what keeps D smooth).
`parzen` is the estimate of likelihood by which the paper of 2014 compares models.

A pair of networks is one linen module, an `AdversarialNetworks`; its parameters are those of
`generator` and of `discriminator`. Imports `models.layers` and `models.ops`; imported by
`train.tasks.adversarial`, benchmarks and tests.
"""

from typing import Any, Protocol

from jax import Array


class AdversarialNetworks(Protocol):
  """A linen module of both networks. Images are `[B, H, W, C]`, their values in [0, 1].

  Attributes:
    latent_size: dimensions of z.
    image_shape: [H, W, C].
    num_classes: of the labels that both are told; 0 for none.
  """

  latent_size: int
  image_shape: tuple[int, int, int]
  num_classes: int

  def init(self, rngs: Any, latents: Array, labels: Array) -> Any:
    """Returns the variables of both networks."""
    ...

  def apply(self, variables: Any, *args: Any, method: str, **kwargs: Any) -> Any:
    """Applies `generate` or `discriminate`."""
    ...

  def clone(self, **fields: Any) -> Any:
    """Returns the module with other fields."""
    ...

  def generate(self, latents: Array, labels: Array, *, train: bool) -> Array:
    """Returns images of latents `[B, latent_size]` and labels int `[B]`."""
    ...

  def discriminate(self, images: Array, labels: Array, *, train: bool) -> Array:
    """Returns logits `[B]`: the log odds of an image being real."""
    ...
