"""Several processes, as far as one can tell in one."""

from jax.sharding import NamedSharding


class HalfOf:
  """A sharding as a process sees it that has only some of the devices."""

  def __init__(self, whole: NamedSharding, devices):
    self.whole, self.devices = whole, set(devices)

  def addressable_devices_indices_map(self, shape):
    parts = self.whole.devices_indices_map(shape)
    return {device: part for device, part in parts.items() if device in self.devices}
