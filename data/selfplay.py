"""The config section of tasks that make their own data by playing games."""

from data import checks


class SelfPlayData:
  """The config section of data that a task makes itself: `data=dict(name='selfplay', ...)`.

  Args:
    batch_size: positions in a training batch, over all devices.

  Raises:
    ValueError: batch_size is below 1.
  """

  def __init__(self, batch_size: int = 256):
    checks.at_least(1, batch_size=batch_size)
    self.batch_size = batch_size

  @classmethod
  def metadata(cls, **section) -> 'SelfPlayData':
    """Returns what a network is built from; here the section itself."""
    return cls(**section)

  def describe(self) -> str:
    """Returns where the positions come from, in a line."""
    return 'games that the network plays while it trains'

  def close(self) -> None:
    """Does nothing: no thread was started."""
