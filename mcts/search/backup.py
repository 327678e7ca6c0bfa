"""The backup of a simulation: values and visits are added to the edges of its path, in place."""

import dataclasses

import jax.numpy as jnp
from jax import lax

CHUNK = 4  # levels of the path that one scatter updates: a compromise between short and long paths


def backup(tree, path, first, length, value=None, *, virtual_loss=False, undo_virtual_loss=False):
  """Returns the tree with one more visit of each edge on the paths.

  Args:
    tree: flat.
    path: int32 `[K D, B]`; of game b, the edges `path[first : first + length[b], b]`.
    first: the row where the paths begin.
    length: int32 `[B]`.
    value: float32 `[B]` for the player to move at the end; its sign alternates on the way up.
    virtual_loss: adds a lost visit for every player on the path instead, before it is evaluated.
    undo_virtual_loss: adds the value, and takes back the loss but not its visit.
  """
  out = tree.value_sum.size  # the first index that scatters drop

  def some_levels(carry):
    start, visits, value_sum = carry
    edges = lax.dynamic_slice_in_dim(path, first + start, CHUNK)  # [CHUNK, B]
    # Levels between an edge and its path's end: 1 for the last edge, below 1 beyond it.
    above = length[None, :] - start - jnp.arange(CHUNK, dtype=jnp.int32)[:, None]
    # A different index out of range for each, since the scatter is told that they are unique.
    away = out + jnp.arange(edges.size, dtype=jnp.int32).reshape(edges.shape)
    edges = jnp.where(above > 0, edges, away)
    if virtual_loss:
      # n_vl = 1 of Silver et al. 2016, Methods. Lost for both players alike: each of them is to be
      # turned away from the path, so the sign does not alternate.
      added = jnp.full_like(edges, -1.0, jnp.float32)
    else:
      # The last edge was selected by the opponent of the player to move at the end.
      added = jnp.where(above % 2 == 1, -value[None], value[None])
      added = added + (1.0 if undo_virtual_loss else 0.0)
    value_sum = value_sum.at[edges].add(added, mode='drop', unique_indices=True)
    # The visit of the virtual loss stays: it becomes the one of this simulation.
    if not undo_virtual_loss:
      one = jnp.ones((), visits.dtype)
      visits = visits.at[edges].add(one, mode='drop', unique_indices=True)
    return start + CHUNK, visits, value_sum

  # As many rounds as the batch's longest path needs; lanes with shorter ones write out of range.
  longest = length.max()
  carry = jnp.zeros_like(longest), tree.visits, tree.value_sum
  carry = lax.while_loop(lambda carry: carry[0] < longest, some_levels, carry)
  return dataclasses.replace(tree, visits=carry[1], value_sum=carry[2])
