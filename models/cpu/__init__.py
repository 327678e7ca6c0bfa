"""Holds what XLA's CPU backend runs well; each form is the equal of a plain one elsewhere.

Nothing else in the tree knows what is special about a CPU. While a program is traced,
`models.forms.formulation()` says which forms it gets, and those who have a plain form ask for the
other: `models/ops.py`, `attention.py`, `gpt/functional.py`, `gpt/generation.py`. `train/step.py`
asks `order.py` in which order to update. The forms have reverse-mode gradients only.

Read first `onednn.py`, then `onednn.c` and `build.py`: convolution, by a library that knows every
x86 processor. `order.py` keeps XLA from computing a value twice. `images.py` and `text.py` have
gradients of their own where the derived ones are slow: of thin products and max pooling, of
LayerNorm and attention. `decode.py` is one token of a GPT, its weights laid out for
products with few rows. docs/speed.md has what each is worth.
"""
