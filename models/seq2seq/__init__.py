"""Encoder-decoders for translation, and the beam search that writes with them.

Read in this order:

1. `contract.py`: what an encoder-decoder is, and its loss.
2. `transformer.py`: the Transformer of 2017; `parameters.py` is the table of its parameters.
3. `beam.py`: beam search, which knows a model by the contract alone.

Products, norms, dropout and the loop over layers are `models/transformer.py`, attention is
`models/attention.py`, and the cross-entropy is GPT's, `models/gpt/loss.py`. The room imports these,
`models.{axes, gpt}` and itself; `train.tasks.translation` imports it.
"""
