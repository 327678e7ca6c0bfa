"""Labelled images: sets by name, decoding on the host, augmentation on the devices.

Read in this order:
  datasets.py, folder.py, tfds_records.py   the sets by name
  records.py   one split of encoded images, decoded to pixels and kept in the cache
  modes.py     files of any depth, alpha or orientation as 8 bits a channel
  decode.py    operations on the host, before batching
  loaders.py   batches from memory or streamed
  workers.py   threads or processes that decode
  source.py    the config section
  shards.py    a folder of images as ArrayRecord shards
  augment.py   operations inside the compiled step, which tasks apply

`train.tasks` imports it; it imports the modules of `data` itself and nothing else of ours.
"""
