"""The devices' peak FLOP/s, and the time that a step would take at that rate.

Model FLOPs utilisation (MFU) is that time over the time that the step took (Chowdhery et al. 2022,
arXiv 2204.02311, appendix B). FLOPs are the model's own, as its task counts them: no
recomputation, no optimiser. The peak is that of dense products in bfloat16, whatever the
activations' type.
"""

from collections.abc import Sequence
from typing import Any

# FLOP/s of one JAX device, by its `device_kind`. NVIDIA's are the data sheets' without sparsity,
# Google's its Cloud TPU documentation's. A TPU v3 chip is two devices, a later one is one.
PEAKS = {
  'NVIDIA A100-PCIE-40GB': 312e12,
  'NVIDIA A100 80GB PCIe': 312e12,
  'NVIDIA A100-SXM4-40GB': 312e12,
  'NVIDIA A100-SXM4-80GB': 312e12,
  'NVIDIA H100 PCIe': 756e12,
  'NVIDIA H100 NVL': 835e12,
  'NVIDIA H100 80GB HBM3': 989e12,
  'NVIDIA H200': 989e12,
  'TPU v3': 123e12 / 2,
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5e': 197e12,
  'TPU v5': 459e12,
  'TPU v5p': 459e12,
  'TPU v6 lite': 918e12,
  'TPU v6e': 918e12,
}


def seconds(flops: float | None, devices: Sequence[Any]) -> float | None:
  """Returns the seconds that `flops` take on all devices at their peak; None if unknown."""
  peaks = [PEAKS.get(device.device_kind) for device in devices]
  if flops is None or None in peaks:
    return None
  return flops / sum(value for value in peaks if value is not None)
