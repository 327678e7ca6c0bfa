"""Batches of positions from games that a task plays itself: nothing is read."""


class SelfPlayData:
  """The config section of `data=dict(name='selfplay', ...)`: how many positions a batch has.

  Raises ValueError if that is not at least 1.
  """

  def __init__(self, batch_size: int = 256):
    if batch_size < 1:
      raise ValueError(f'data.batch_size={batch_size}: must be at least 1')
    self.batch_size = batch_size

  @classmethod
  def outline(cls, **section) -> 'SelfPlayData':
    """What a network has to know of the data: nothing."""
    return cls(**section)

  def close(self) -> None:
    """Nothing runs."""
