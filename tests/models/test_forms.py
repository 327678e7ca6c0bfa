"""Which form of an operation is traced, and for what."""

import jax
import jax.numpy as jnp
import pytest

from models import forms


def test_a_program_is_traced_anew_in_another_form():
  traced = []

  @jax.jit
  def double(x):
    traced.append(forms.formulation())
    return 2 * x

  for form in ('plain', 'cpu', 'plain'):
    with forms.use(form):
      double(jnp.ones(3))
  assert traced == ['plain', 'cpu']


def test_blocks_nest_and_end():
  assert forms.formulation() == 'cpu'
  with forms.use('plain'):
    with forms.use('cpu'):
      assert forms.formulation() == 'cpu'
    assert forms.formulation() == 'plain'
  assert forms.formulation() == 'cpu'


def test_an_unknown_form_names_the_choices():
  with pytest.raises(ValueError, match="'tpu': choose from cpu, plain"), forms.use('tpu'):
    pass


def test_the_platform_is_that_of_the_mesh():
  assert forms.platform() == 'cpu'
  with jax.set_mesh(jax.make_mesh((8,), ('data',))):
    assert forms.platform() == 'cpu'
