"""Forms of operations that XLA runs well on a CPU; each computes what a plain form elsewhere does.

Nothing else in the tree knows what is special about a CPU. While a program is traced,
`models.forms.formulation()` says which forms it gets, and what has both asks it: `models/ops.py`,
`attention.py`, `transformer.py`, and `gpt/model.py` for the layout of a decoder's weights.
`train/step.py` asks `order.py` in which order to update. The forms have reverse-mode gradients
only.

Read first `onednn.py`, then `onednn.c` and `build.py`: convolution, by a library that knows every
x86 processor. `order.py` keeps XLA from computing a value twice. `images.py` and `text.py` have
gradients of their own where the derived ones are slow: of thin products and max pooling, of norms
and attention. `decode.py` lays a transformer's weights and cache out for one token at a time.
docs/speed.md has what each is worth. The room imports `models.axes` and `models.forms` alone.
"""
