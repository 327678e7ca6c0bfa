"""Helpers for tests of denoising networks."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from models import ops
from train import mesh as mesh_lib

# Networks this small compile for longer than they run: half as long without optimisation.
jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def normals(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shapes_of(net, *args):
  """Returns the shapes of the variables, boxed; in the plain formulation, which traces faster."""
  with ops.use('plain'):
    return jax.eval_shape(net.init, jax.random.key(0), *args)


def count(shapes):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(mesh_lib.unbox(shapes)))


def random_values(shapes, scale=None):
  """Returns random arrays, none zero, of standard deviation scale or, if None, 1 / sqrt(fan-in)."""
  leaves, tree = jax.tree.flatten(mesh_lib.unbox(shapes))
  sizes = [scale or 1 / math.sqrt(max(math.prod(leaf.shape[:-1]), 1)) for leaf in leaves]
  values = [
    s * normals(*x.shape, seed=i) for i, (x, s) in enumerate(zip(leaves, sizes, strict=True))
  ]
  return jax.tree.unflatten(tree, values)


def initial(net, *args):
  """Returns freshly initialised variables."""
  with ops.use('plain'):
    key = jax.random.key(0, impl='rbg')  # compiled sooner than the others
    return mesh_lib.unbox(jit(net.init)(key, *args))


@functools.partial(jit, static_argnames=('net', 'train', 'form'))
def _apply(variables, args, given, rngs, *, net, train, form):
  with ops.use(form):
    return net.apply(variables, *args, **given, rngs=rngs, train=train)


def apply(net, variables, *args, train=False, rngs=None, form='plain', **given):
  values = _apply(variables, args, given, rngs, net=net, train=train, form=form)
  return jax.tree.map(np.asarray, values)


def loss_and_gradients(net, variables, x, t, *, form='plain', **given):
  def loss(variables, x, t, given):
    with ops.use(form):
      return jnp.square(net.apply(variables, x, t, **given) - x).mean()

  return jit(jax.value_and_grad(loss))(variables, x, t, given)


def assert_close(one, other, tolerance=1e-5):
  def check(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(a).max()))

  jax.tree.map(check, one, other)
