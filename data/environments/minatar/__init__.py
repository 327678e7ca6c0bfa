"""MinAtar: five Atari games on a grid of 10 x 10 cells (Young and Tian 2019, arXiv 1903.03176).

Each file is a game's rules as pure functions, written from the paper and from what the NumPy
original does, with which the tests compare them step for step; nothing of it is copied. All games
have six actions, of which some do nothing, and sticky actions; observations are bool planes.
`grid.py` has what they share.
"""

from data.environments.minatar.asterix import Asterix
from data.environments.minatar.breakout import Breakout
from data.environments.minatar.freeway import Freeway
from data.environments.minatar.seaquest import Seaquest
from data.environments.minatar.space_invaders import SpaceInvaders

__all__ = ['Asterix', 'Breakout', 'Freeway', 'Seaquest', 'SpaceInvaders']
