"""Environments: what an agent acts in, as pure functions that run on the device by the thousand.

Read first `environment.py`, the contract, and `cartpole.py`, a short one; then a game of
`minatar/`. `atari.py` has those that run on the host. They are sources of experience as image sets
are of examples, hence in `data`: any task may learn from them. `mcts` is for games of two players
and their search. They import nothing of ours but one another.
"""

from collections.abc import Callable

from data.environments.atari import Atari, HostEnvironment
from data.environments.cartpole import CartPole
from data.environments.environment import Environment
from data.environments.minatar import Asterix, Breakout, Freeway, Seaquest, SpaceInvaders

ENVIRONMENTS: dict[str, Callable[..., Environment | HostEnvironment]] = {
  'atari': Atari,
  'cartpole': CartPole,
  'asterix': Asterix,
  'breakout': Breakout,
  'freeway': Freeway,
  'seaquest': Seaquest,
  'space_invaders': SpaceInvaders,
}
