"""Atari 2600 games by the Arcade Learning Environment, with the preprocessing of Nature's DQN.

They run on the host, in threads, and need the extra `atari` (ale-py, whose licence is GPL-2.0).
Mnih et al. 2015, Methods: an action is held for 4 frames, of the last two of which the brighter
pixels are seen, grey, 84 x 84; an episode begins with up to 30 actions that do nothing, and FIRE
where a game waits for it.
"""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

SIDE = 84
FRAMES = 108_000  # of an episode at most, half an hour (no-op starts: Mnih et al. 2015)

# (random play, a human tester), Extended Data Table 2: a human-normalised score is 0 and 1 there.
SCORES = {
  'beam_rider': (363.9, 5775.0),
  'breakout': (1.7, 31.8),
  'enduro': (0.0, 309.6),
  'pong': (-20.7, 9.3),
  'qbert': (163.9, 13455.0),
  'seaquest': (68.4, 20182.0),
  'space_invaders': (148.0, 1652.0),
}


@dataclasses.dataclass(frozen=True)
class HostEnvironment:
  """An environment that runs on the host, many copies at a time.

  name: what users call it.
  num_actions: A.
  observation: shape and dtype of one.
  open: (count, seed) -> a vector environment of Gymnasium's contract, which after an episode's end
    takes one step to begin the next (`AutoresetMode.NEXT_STEP`), and tells 'lives' in its info.
  scores: of random play and of a human, where they are known.
  """

  on_host: ClassVar[bool] = True
  name: str
  num_actions: int
  observation: jax.ShapeDtypeStruct
  open: Callable[[int, int], Any]
  scores: tuple[float, float] | None = None
  time_limit: int = 0  # the emulator's own

  def render(self, observation: np.ndarray) -> np.ndarray:
    """Returns the picture uint8 `[168, 168, 3]` of an observation."""
    return observation.repeat(3, -1).repeat(2, 0).repeat(2, 1)


def Atari(game: str = 'pong', sticky_prob: float = 0.0) -> HostEnvironment:
  """Returns a game of the emulator, with the actions that do something in it.

  Args:
    game: as ALE names its ROMs, such as breakout or space_invaders.
    sticky_prob: the probability that an action is the one before: Nature has 0, ALE's v5 0.25. The
      two are different benchmarks.

  Raises:
    ValueError: the extra is not installed, there is no such ROM, or the probability is none.
  """
  if not 0 <= sticky_prob < 1:
    raise ValueError(f'sticky_prob={sticky_prob}: must be in [0, 1), a probability')
  try:
    from ale_py import roms, vector_env
  except ImportError:
    raise ValueError(
      f"atari(game={game}): needs ale-py; install it by pip install '.[atari]'"
    ) from None
  games = roms.get_all_rom_ids()
  if game not in games:
    near = difflib.get_close_matches(game, games, n=1)
    hint = f' (did you mean {near[0]}?)' if near else ''
    raise ValueError(f'game={game!r}: no such ROM{hint}; ale-py has {", ".join(sorted(games))}')

  def make(count: int, seed: int) -> Any:
    del seed  # is given when it is reset
    return vector_env.AtariVectorEnv(
      game,
      count,
      stack_num=1,  # the replay puts histories together
      reward_clipping=False,  # scores are not clipped
      max_num_frames_per_episode=FRAMES,
      repeat_action_probability=sticky_prob,
    )

  probe = make(1, 0)
  actions = int(probe.single_action_space.n)
  probe.close()
  seen = jax.ShapeDtypeStruct((SIDE, SIDE, 1), np.dtype('uint8'))
  return HostEnvironment(f'atari_{game}', actions, seen, make, SCORES.get(game))
