"""Leaves a profile of some steps, for TensorBoard or Perfetto."""

import os
from typing import Any

import jax

from train.errors import UserError


class Profile:
  """Traces the steps from START to STOP into the run folder's `profile/`.

  Args:
    workdir: the run folder.
    span: (START, STOP), or None for no profile.
  """

  def __init__(self, workdir: str, span: tuple[int, int] | None) -> None:
    self._folder, self._span = os.path.join(workdir, 'profile'), span or (-1, -1)

  def check(self, step: int, steps: int) -> None:
    """Raises UserError unless the span lies in what is to be trained, `step` to `steps`."""
    start, stop = self._span
    if start >= 0 and not step <= start < stop <= steps:
      text = f'--profile={start}:{stop}'
      raise UserError(f'{text}: must lie within {step}:{steps}, the steps to be trained')

  def at(self, step: int, state: Any) -> None:
    """Starts or stops the trace, if `step`, of which `state` comes, is the one to do so."""
    if step in self._span:
      # So that the trace holds these steps and none that were dispatched before.
      jax.block_until_ready(state)
    if step == self._span[0]:
      jax.profiler.start_trace(self._folder)
    if step == self._span[1]:
      jax.profiler.stop_trace()
