"""The gradient of a batch, however it is cut into microbatches, replicas or processes.

The loss is a sum over a weight, and both are summed over all microbatches and devices before they
are divided: means of means would weigh examples by what else is in their part of the batch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from models.axes import mesh_size
from models.cpu.order import unrolled
from train import mesh as mesh_lib
from train.task import Batch, Metrics


def of_batch(
  accumulate: int, sums: Callable, params: Any, extra: Any, batch: Batch, axis: str | None
) -> tuple[Array, Any, Any, Metrics]:
  """Returns the batch's loss, its gradients, the other variables and metrics.

  Args:
    accumulate: microbatches, one after the other.
    sums: from params, extra and a batch to the loss's sum, and (extra, metrics).
    params: of the variables, by which is differentiated.
    extra: the other variables.
    batch: of a step, or of one device under `pmap`.
    axis: the name under which `pmap` has split the batch; None in a program of all devices.
  """
  if accumulate == 1:
    return gradients(sums, params, extra, batch, axis)
  found = functools.partial(accumulated, accumulate)
  over = functools.partial(_over_data, found) if axis is None else found
  return over(sums, params, extra, batch, axis)


def parts(batch: Batch, count: int) -> Batch:
  """Returns `[count, B / count, ...]`; part i has examples i, i + count, ..., of all devices."""
  return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)


def gradients(
  sums: Callable, params: Any, extra: Any, batch: Batch, axis: str | None
) -> tuple[Array, Any, Any, Metrics]:
  """Returns the batch's loss, its gradients, the other variables and metrics; sums over `axis`.

  sums: from params, extra and a batch to the loss's sum, and (extra, metrics).
  """

  def mean(params: Any) -> tuple[Array, tuple[Any, Metrics]]:
    total, (extra_, metrics) = sums(params, extra, batch)
    # Over the weight of all devices, so that `psum` below makes the mean.
    return total / _total_weight(metrics, axis), (extra_, metrics)

  (value, (extra, metrics)), grads = jax.value_and_grad(mean, has_aux=True)(params)
  if axis is not None:
    value, grads, metrics = lax.psum((value, grads, metrics), axis)
    extra = lax.pmean(extra, axis)  # running statistics, of which each device has its own
  return value, grads, extra, metrics


def accumulated(
  accumulate: int, sums: Callable, params: Any, extra: Any, batch: Batch, axis: str | None
) -> tuple[Array, Any, Any, Metrics]:
  """Returns what `gradients` does, computed in `accumulate` microbatches of equal size."""
  value_and_grad = jax.value_and_grad(sums, has_aux=True)  # of sums: they add up

  def add(carry: Any, microbatch: Batch) -> tuple[Any, None]:
    totals, extra = carry
    (_, (extra, metrics)), grads = value_and_grad(params, extra, microbatch)
    return (jax.tree.map(jnp.add, totals, (grads, metrics)), extra), None

  microbatches = parts(batch, accumulate)
  first = jax.tree.map(lambda x: x[0], microbatches)
  # The zeros that the scan begins with need the shapes of its results, before the first of them.
  (_, (_, metrics)), grads = jax.eval_shape(value_and_grad, params, extra, first)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, metrics))
  ((grads, metrics), extra), _ = lax.scan(
    add, (zeros, extra), microbatches, unroll=unrolled(accumulate)
  )
  if axis is not None:
    grads, metrics = lax.psum((grads, metrics), axis)
    extra = lax.pmean(extra, axis)
  weight = _total_weight(metrics, None)  # already summed over devices
  return metrics['loss'][0] / weight, jax.tree.map(lambda g: g / weight, grads), extra, metrics


def _over_data(
  gradients: Callable, sums: Callable, params: Any, extra: Any, batch: Batch, axis: None
) -> tuple[Array, Any, Any, Metrics]:
  """Returns `gradients(...)` with each replica summing its own, which cross `data` once a step.

  The partitioner would reduce them with each microbatch. `fsdp` stays its own; with `tensor` in the
  program as well it gathers activations in here, which costs more than it saves.
  """
  if mesh_size('data') == 1 or mesh_size('tensor') > 1:
    return gradients(sums, params, extra, batch, axis)
  whole = PartitionSpec()

  def of_replica(params: Any, extra: Any, batch: Batch) -> tuple[Array, Any, Any, Metrics]:
    with mesh_lib.logical_rules(without='data'):
      return gradients(sums, params, extra, batch, 'data')

  return jax.shard_map(
    of_replica,
    in_specs=(whole, whole, PartitionSpec('data')),
    out_specs=whole,
    axis_names={'data'},
    check_vma=False,  # so that differentiating sums nothing over replicas
  )(params, extra, batch)


def _total_weight(metrics: Metrics, axis: str | None) -> Array:
  """Returns the loss's weight over all devices of `axis`; 1 where there is none to divide by."""
  weight = metrics['loss'][1]
  weight = weight if axis is None else lax.psum(weight, axis)
  return jnp.where(weight > 0, weight, 1)
