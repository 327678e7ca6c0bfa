"""Parallel text for translation: pairs of sentences, their joint vocabulary, batches by tokens.

Read in this order:
  datasets.py    the sets by name: splits of pairs; numerals.py has the embedded one
  tokenizer.py   sentences as ids, with padding, beginning and end
  buckets.py     which pairs make up a batch, and of which length it is
  source.py      the config section

The tokenizers, the cache of tokens and the files are those of `data.text`.
"""
