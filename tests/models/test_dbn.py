"""The deep belief net beside sums over all states of small machines, and beside scikit-learn."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neural_network import BernoulliRBM

import models
from models import boltzmann, dbn

VISIBLE, HIDDEN, LABELS = 4, 3, 2


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def states(count):
  return np.array(list(itertools.product((0.0, 1.0), repeat=count)), np.float32)


def machine(seed=0, labels=LABELS):
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return rng.normal(0, 1, shape).astype(np.float32)

  rbm = {'kernel': draw(VISIBLE, HIDDEN), 'bias': draw(VISIBLE), 'hidden_bias': draw(HIDDEN)}
  own = {'labels': draw(labels, HIDDEN), 'label_bias': draw(labels)}
  return {**rbm, **(own if labels else {})}


def everything():
  """Returns all visible states with all labels, `[32, 4]` and `[32, 2]`."""
  v, y = states(VISIBLE), np.eye(LABELS, dtype=np.float32)
  return np.repeat(v, LABELS, 0), np.tile(y, (len(v), 1))


def energies(rbm, v, y, h):
  """Returns E(v, y, h) for rows of v and y and all rows of h, `[N, 8]`."""
  inputs = v @ rbm['kernel'] + y @ rbm['labels'] + rbm['hidden_bias']
  return -(v @ rbm['bias'] + y @ rbm['label_bias'])[:, None] - inputs @ h.T


def exact(rbm):
  """Returns p(v, y) of all states by the sum over all hidden ones, `[32]`."""
  v, y = everything()
  weights = np.exp(-energies(rbm, v, y, states(HIDDEN)).astype(np.float64)).sum(1)
  return weights / weights.sum()


# -------- one machine --------


def test_the_free_energy_sums_hidden_units_out():
  rbm, (v, y) = machine(), everything()
  summed = -np.log(np.exp(-energies(rbm, v, y, states(HIDDEN))).sum(1))
  np.testing.assert_allclose(boltzmann.free_energy(rbm, v, y), summed, rtol=1e-5, atol=1e-5)


def test_label_scores_are_the_exact_posterior():
  rbm, v = machine(), states(VISIBLE)
  p = exact(rbm).reshape(len(v), LABELS)
  posterior = p / p.sum(1, keepdims=True)
  np.testing.assert_allclose(jax.nn.softmax(boltzmann.label_scores(rbm, v)), posterior, atol=1e-5)


def test_contrast_has_the_gradient_of_the_likelihood_where_the_model_is_exact():
  """Contrastive divergence's limit: negative samples by the model's own probabilities."""
  rbm, (v, y) = machine(), everything()
  data = v[[3, 9, 20]], y[[3, 9, 20]]

  def minus_log_likelihood(rbm):
    log_z = jax.nn.logsumexp(-boltzmann.free_energy(rbm, v, y))
    return jnp.mean(boltzmann.free_energy(rbm, *data)) + log_z

  def contrast(rbm):
    p = exact(machine())  # held fixed
    model = jnp.sum(p * boltzmann.free_energy(rbm, v, y))
    return jnp.mean(boltzmann.free_energy(rbm, *data)) - model

  likelihood = jax.jit(jax.grad(minus_log_likelihood))(rbm)
  contrastive = jax.jit(jax.grad(contrast))(rbm)
  for name in rbm:
    np.testing.assert_allclose(contrastive[name], likelihood[name], atol=1e-5)


def test_contrast_has_the_statistics_of_contrastive_divergence():
  rbm = machine()
  rng = np.random.default_rng(1)
  data, model = (rng.random((6, VISIBLE), np.float32) for _ in range(2))
  y, z = np.eye(LABELS, dtype=np.float32)[rng.integers(LABELS, size=(2, 6))]
  grads = jax.grad(boltzmann.contrast)(rbm, (data, y), (model, z))

  def hidden(v, y):
    return sigmoid(v @ rbm['kernel'] + y @ rbm['labels'] + rbm['hidden_bias'])

  up, down = hidden(data, y), hidden(model, z)
  expected = {
    'kernel': model.T @ down - data.T @ up,
    'labels': z.T @ down - y.T @ up,
    'bias': model.sum(0) - data.sum(0),
    'label_bias': z.sum(0) - y.sum(0),
    'hidden_bias': down.sum(0) - up.sum(0),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(grads[name], value, atol=1e-5)


@pytest.mark.long
def test_gibbs_sampling_ends_in_the_machines_distribution():
  rbm, (v, _) = machine(), everything()
  count = 20_000
  keys = jax.random.split(jax.random.key(0), count)
  start = jnp.zeros((count, VISIBLE)), jax.nn.one_hot(jnp.zeros(count, int), LABELS)
  run = jax.jit(lambda: boltzmann.gibbs(rbm, keys, *start, 100, sample_visible=True))
  found_v, found_y = run()
  number = np.asarray(found_v) @ 2 ** np.arange(VISIBLE)[::-1] * LABELS + found_y.argmax(-1)
  found = np.bincount(number.astype(int), minlength=len(v)) / count
  assert np.abs(found - exact(rbm)).sum() / 2 < 0.03  # 0.9 before the first step
  assert found_y.sum(1).tolist() == [1] * count


def test_gibbs_sampling_keeps_clamped_labels_and_reconstructs_by_probabilities():
  rbm = machine()
  keys = jax.random.split(jax.random.key(0), 5)
  y = jax.nn.one_hot(jnp.array([0, 1, 1, 0, 1]), LABELS)
  v, found = boltzmann.gibbs(
    rbm, keys, jnp.ones((5, VISIBLE)), y, 3, sample_visible=False, clamp_labels=True
  )
  assert (np.asarray(found) == np.asarray(y)).all()
  assert ((v > 0) & (v < 1)).all()


def test_a_machine_without_labels_is_scikit_learns():
  rbm, v = machine(labels=0), states(VISIBLE)
  theirs = BernoulliRBM(n_components=HIDDEN)
  theirs.components_ = rbm['kernel'].T
  theirs.intercept_hidden_, theirs.intercept_visible_ = rbm['hidden_bias'], rbm['bias']
  np.testing.assert_allclose(
    jax.nn.sigmoid(boltzmann.hidden_logits(rbm, v)), theirs.transform(v), rtol=1e-5
  )
  np.testing.assert_allclose(boltzmann.free_energy(rbm, v), theirs._free_energy(v), rtol=1e-5)


# -------- the net --------


def test_the_papers_net_has_its_1_7_million_weights():
  net = models.build('dbn', num_classes=10)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))['params']
  sizes = {
    (layer, name): leaf.size
    for layer, own in nn.unbox(shapes).items()
    for name, leaf in own.items()
  }
  top = sizes['top', 'kernel'] + sizes['top', 'labels']
  assert top == 510 * 2000
  tied = sum(size for (_, name), size in sizes.items() if name == 'recognition') + top
  assert tied == 784 * 500 + 500 * 500 + 510 * 2000  # 1,662,000
  untied = sum(size for (_, name), size in sizes.items() if name == 'generation')
  assert untied == 784 * 500 + 500 * 500


@pytest.fixture(scope='module')
def net():
  module = models.build('dbn', num_classes=LABELS, hidden=(5, 4), top=3)
  params = nn.unbox(module.init(jax.random.key(0), jnp.zeros((1, 6)))['params'])
  rng = np.random.default_rng(2)
  return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 1, x.shape), jnp.float32), params)


def test_up_down_moves_generation_by_wake_and_recognition_by_sleep(net):
  rng = np.random.default_rng(3)
  v, y = rng.random((7, 6), np.float32), np.eye(LABELS, dtype=np.float32)[rng.integers(2, size=7)]
  keys = jax.random.split(jax.random.key(1), 7)
  wake, fantasy, sleep = jax.jit(dbn.up_down)(net, keys, v, y, 2)
  assert [x.shape[1] for x in wake] == [x.shape[1] for x in sleep] == [6, 5, 4]
  assert (sleep[2] == fantasy[0]).all() and (wake[0] == v).all()
  grads = jax.jit(jax.grad(dbn.up_down_objective))(net, wake, fantasy, sleep, y)
  net, wake, sleep = jax.device_get((net, wake, sleep))
  for i in range(2):
    own, found = net[f'layer{i}'], grads[f'layer{i}']
    made = sigmoid(wake[i + 1] @ own['generation'] + own['generation_bias'])
    np.testing.assert_allclose(found['generation'], wake[i + 1].T @ (made - wake[i]), atol=1e-4)
    guessed = sigmoid(sleep[i] @ own['recognition'] + own['recognition_bias'])
    np.testing.assert_allclose(
      found['recognition'], sleep[i].T @ (guessed - sleep[i + 1]), atol=1e-4
    )
  top = jax.jit(jax.grad(boltzmann.contrast))(net['top'], (wake[2], y), fantasy)
  for name, value in top.items():
    np.testing.assert_allclose(grads['top'][name], value, atol=1e-5)


def test_a_layer_written_as_an_rbm_is_tied(net):
  rbm = dbn.rbm_of(net, 1)
  assert rbm['bias'] is net['layer1']['generation_bias']
  tied = dbn.with_rbm(net, 1, rbm)['layer1']
  assert (tied['generation'] == tied['recognition'].T).all()
  assert dbn.rbm_of(net, 2) is net['top']


def test_fields_of_upper_layers_are_products_of_weights(net):
  first, second = net['layer0']['recognition'], net['layer1']['recognition']
  np.testing.assert_allclose(dbn.fields(net, 0), first.T)
  np.testing.assert_allclose(
    dbn.fields(net, 2), (first @ second @ net['top']['kernel']).T, rtol=1e-4, atol=1e-5
  )


def test_samples_of_a_saturated_net_are_what_its_weights_say(net):
  """A label turns one hidden unit on or off, and all units below follow it."""
  zero = jax.tree.map(jnp.zeros_like, net)
  top = {**zero['top'], 'labels': jnp.array([[40.0] * 3, [-40.0] * 3])}
  top['kernel'], top['bias'] = jnp.full((4, 3), 10.0), jnp.full(4, -15.0)
  chain = {
    f'layer{i}': {
      **zero[f'layer{i}'],
      'generation': jnp.full_like(zero[f'layer{i}']['generation'], 20.0),
      'generation_bias': jnp.full_like(zero[f'layer{i}']['generation_bias'], -10.0),
    }
    for i in range(2)
  }
  labels = jax.nn.one_hot(jnp.array([0, 1, 0]), LABELS)
  keys = jax.random.split(jax.random.key(0), 3)
  images = jax.jit(dbn.sample)({**chain, 'top': top}, keys, labels, 2)
  np.testing.assert_allclose(images, [[1.0] * 6, [0.0] * 6, [1.0] * 6], atol=1e-3)


@pytest.mark.parametrize('wrong', [{'hidden': ()}, {'hidden': (5, 0)}, {'top': 0}])
def test_layers_without_units_are_refused(wrong):
  with pytest.raises(ValueError, match='at least one unit a layer'):
    models.build('dbn', num_classes=2, **wrong)
