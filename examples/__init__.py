"""Small scripts that each use one part of the code alone: to run once, and to copy from.

  search.py    batched tree search on a game, with your own network function
  sampler.py   a diffusion sampler, with your own score function
  gpt.py       GPT: forward pass, loss and generation from random weights
  run.py       a trained run, opened and used on your own images

Run them from the root of the clone, e.g. `python -m examples.search`. Nothing imports this package
but `tests/test_examples.py`, which runs each script; it may import everything but `launch.py`.
"""
