"""GPT: forward pass, loss and generation from random weights: python -m examples.gpt"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.gpt import GPT, num_params, unboxed
from models.gpt.generation import generate
from models.gpt.sampling import Sampling

VOCAB, BLOCK = 256, 64  # tokens are bytes here
model = GPT(vocab_size=VOCAB, block_size=BLOCK, layers=2, heads=4, width=64, positions='rope')
tokens = jax.random.randint(jax.random.key(0), (2, BLOCK + 1), 0, VOCAB)
inputs, targets = tokens[:, :-1], tokens[:, 1:]
# `init` boxes each parameter with the names of its logical axes, for sharding; here none is split.
variables = unboxed(model.init(jax.random.key(1), inputs))
logits = np.asarray(model.apply(variables, inputs))
print(f'{num_params(model):,} parameters; logits {logits.shape}')


@jax.jit
@jax.value_and_grad
def loss_and_gradient(params):
  """Returns the mean loss in nats per token, and its gradient."""
  weights = jnp.ones(targets.shape)  # 0 for a token that should not count
  nats, weight = model.apply({'params': params}, inputs, targets, weights, method='loss')
  return nats / weight  # a sum and its weight, so that microbatches can be added


loss, gradient = loss_and_gradient(variables['params'])
print(f'loss {loss:.3f} nats per token, norm of the gradient {optax.global_norm(gradient):.3f}')

# Prompts may differ in length; blocks of new tokens, int32 [B, n], come as they are made.
prompts, sampling = [list(b'The sea'), list(b'A')], Sampling(temperature=0.8, top_k=40)
blocks = generate(model, variables, prompts, jax.random.key(2), max_tokens=16, sampling=sampling)
for prompt, new in zip(prompts, np.concatenate(list(blocks), axis=1), strict=True):
  print(bytes(prompt + new.tolist()))
