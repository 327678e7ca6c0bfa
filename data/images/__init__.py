"""Labelled images: sets by name, decoding on the host, augmentation on the devices.

Read in this order:
  datasets.py, tfds_records.py   the sets by name
  records.py   one split of encoded images, decoded to pixels and kept in the cache
  decode.py    operations on the host, before batching
  loaders.py   batches from memory or streamed
  source.py    the config section
  augment.py   operations inside the compiled step, which tasks apply

`train.tasks` imports it; it imports the modules of `data` itself and nothing else of ours.
"""
