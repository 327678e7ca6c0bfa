"""Batched tree search on Connect Four, with your own network: python -m examples.search"""

import jax
import jax.numpy as jnp

from mcts import search
from mcts.game import initial_states
from mcts.games.connect_four import ConnectFour
from mcts.search import evaluators

BATCH, MOVES = 4, 12
game = ConnectFour()  # or any `mcts.game.Game`


def network(planes):
  """Returns logits [B, A] and values [B] in [-1, 1] of planes [B, H, W, C], for who is to move."""
  center = -jnp.abs(jnp.arange(game.num_actions) - 3.0)  # put your network's apply here
  return jnp.tile(center, (len(planes), 1)), jnp.zeros(len(planes))


# Illegal moves are masked, and finished games get their true value, whatever the network says.
evaluate = evaluators.network(game, network)
make_root = evaluators.make_root(game, evaluate)
expand = evaluators.make_expand(game, evaluate)


@jax.jit
def choose(states, key):
  """Returns the move of each game, int32 [B], and the value of its position, float32 [B]."""
  output, _ = search.gumbel(make_root(states, key), expand, key, num_simulations=128)
  return output.action, output.value


states = initial_states(game, BATCH)
for move in range(MOVES):
  actions, values = choose(states, jax.random.key(move))
  print(f'move {move + 1}: columns {actions.tolist()}, values {jax.device_get(values).round(2)}')
  states = jax.vmap(game.step)(states, actions)  # rules are of one game: vmap makes the batch
print(game.render(jax.tree.map(lambda x: x[0], states)))
