"""Speed of ours beside other libraries, a command each; docs/speed.md has the results.

  python -m benchmarks            training steps of the image networks, beside PyTorch
  python -m benchmarks.layers     single convolutions, beside PyTorch
  python -m benchmarks.gpt        GPT's training and generation, beside nanoGPT and transformers
  python -m benchmarks.word2vec   words a second, beside gensim
  python -m benchmarks.diffusion  the U-Net's training and sampling, beside diffusers
  python -m benchmarks.gan        steps of GANs, beside PyTorch
  python -m benchmarks.go, .search, .selfplay   rules, tree search, self-play, beside pgx and mctx
  python -m benchmarks.input      batches of images and texts, beside grain and tf.data
  python -m benchmarks.solvers    errors of diffusion samplers by evaluations of the network
  python -m benchmarks.weak_scaling   more devices with more work, simulated
  python -m benchmarks.loop, .memory, .peak     overhead of the loop, memory of a step, products

Read `turns.py` first: engines are processes of their own that take turns. `steps.py` compiles our
training step, `nets.py`, `jax_nets.py` and `torch_*.py` have the networks, `input_engines.py` the
pipelines. Nothing imports `benchmarks` but its tests.
"""
