"""Self-play that was saved on some devices goes on on others with all games and positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.tasks.selfplay.small_selfplay import GO, begin, task_of


def exact(variables, planes):
  """A network without rounding, which would depend on how many positions there are."""
  place = (planes.reshape(len(planes), -1) * np.arange(1, planes[0].size + 1)[None]).sum(1)
  logits = place[:, None] * np.arange(1, 11)[None] % 5
  return logits.astype(jnp.float32), (place % 9 - 4).astype(jnp.float32) / 8


def played(begun, devices):
  """The carry after a step on each of these numbers of devices; begun: number -> source and all."""
  carry = begun[devices[0]][1]
  for step, count in enumerate(devices):
    source, fresh, variables = begun[count]
    places = jax.tree.map(lambda x: x.sharding, fresh)
    carry = jax.tree.map(jnp.copy, carry)  # the step donates it
    carry, batch = source.next(jax.device_put(carry, places), step, variables)
    assert batch['mask'].sum() == pytest.approx(32) and (batch['mask'] > 0).all()
  return carry


@pytest.mark.slow
def test_games_trees_and_replay_go_on_on_any_number_of_devices():
  """With no minimum, so that the first games end after another number of moves on each device."""
  task = task_of(**{
    **GO,
    'selection': 'puct(dirichlet_fraction=0.25)',
    'search': {'num_simulations': 3, 'reuse_tree': True},
    'replay': {'window': 640, 'min_size': 0},
  })  # fmt: skip
  task.apply = exact
  begun = {count: begin(task, count) for count in (8, 2)}
  moved, stayed = played(begun, (8, 2, 8)), played(begun, (8, 8, 8))
  for name in ('actors', 'replay'):
    leaves = map(jax.tree.leaves, (getattr(moved, name), getattr(stayed, name)))
    for ours, theirs in zip(*leaves, strict=True):
      if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.prng_key):
        ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
      np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)
  # All have made as many moves, so that one place of all rings is written at a time.
  assert len(set(stayed.actors.plies.tolist())) == 1
