"""Compiles a config's programs for hardware that is not there, and says what they will need.

Read in this order:
  topology.py        names of hardware ('v5e:4x4', 'h100:8') and what a chip has
  programs.py        what a config's training step or its sampling compiles to
  hlo.py, replica_groups.py   what a compiled program communicates, and its kernels
  flops.py           the model's own operations
  report.py          the memory of a device, the estimate of a step, and how they are shown
  compile.py         the verb; where a program does not fit, what would help, tried

The verb `compile` alone uses the room.
"""
