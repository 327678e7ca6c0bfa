"""Limits how far the host runs ahead of the devices."""

import collections
from typing import Any

import jax


class Ahead:
  """A queue of results: called with each program's, it waits for that of `most` calls before.

  XLA's simulated devices lock up for good where some of them wait for one another and more than 32
  programs are in flight: what one of them waits for cannot be launched on another. On any device
  the memory of what is in flight adds up.
  """

  def __init__(self, most: int = 4):
    self.most = most
    self._results: collections.deque[Any] = collections.deque()

  def __call__(self, result: Any) -> bool:
    """Returns whether there was one to wait for."""
    self._results.append(result)
    waits = len(self._results) > self.most
    if waits:
      jax.block_until_ready(self._results.popleft())
    return waits
