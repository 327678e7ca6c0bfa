"""A stream of batches that ends its run, for tests of going on."""

import dataclasses
import os
import signal
from typing import Any


@dataclasses.dataclass(frozen=True)
class StoppingSource:
  """A source that sends SIGTERM to the process when the batch of a step is asked for."""

  source: Any
  step: int

  def init(self, key):
    return self.source.init(key)

  def next(self, carry, step, variables):
    if step == self.step:
      os.kill(os.getpid(), signal.SIGTERM)
    return self.source.next(carry, step, variables)
