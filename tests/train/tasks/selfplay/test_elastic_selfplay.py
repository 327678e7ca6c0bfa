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


def played(devices, **task):
  """The carry after steps on so many devices, step by step, dealt out anew where they change."""
  task, carry = task_of(**{**GO, **task}), None
  task.apply = exact
  for step, count in enumerate(devices):
    source, fresh, variables = begin(task, count)
    places = jax.tree.map(lambda x: x.sharding, fresh)
    carry = fresh if carry is None else jax.device_put(carry, places)
    carry, batch = source.next(carry, step, variables)
    assert (batch['mask'].sum() == 32) and (batch['mask'] > 0).all()
  return jax.device_get(carry), batch


SETTINGS = {
  'unequal': {'replay': {'window': 640, 'min_size': 0}},
  'trees': {'selection': 'puct(dirichlet_fraction=0.25)', 'search': {'reuse_tree': True}},
}


@pytest.mark.long
@pytest.mark.parametrize('name', SETTINGS)
def test_games_and_replay_go_on_on_any_number_of_devices(name):
  """The first games end after a different number of moves on each device."""
  moved, _ = played((8, 1, 4, 2), **SETTINGS[name])
  stayed, _ = played((8, 8, 8, 8), **SETTINGS[name])
  for ours, theirs in zip(*map(jax.tree.leaves, (moved.replay, stayed.replay)), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  for ours, theirs in zip(*map(jax.tree.leaves, (moved.actors, stayed.actors)), strict=True):
    if not jax.dtypes.issubdtype(ours.dtype, jax.dtypes.prng_key):
      np.testing.assert_array_equal(ours, theirs)
  # All have made as many moves, so that one place of all rings is written at a time.
  assert len(set(stayed.actors.plies.tolist())) == 1
  kept = stayed.replay
  assert (kept.end < kept.count[:, None]).all() and (kept.end >= 0).any(1).all()
