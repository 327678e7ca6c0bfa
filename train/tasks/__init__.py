"""TASKS: one pillar a file; a new one is a class like `train.task.Task` and a line here."""

from train.tasks.classify import Classify
from train.tasks.consistency import Consistency
from train.tasks.diffusion import Diffusion
from train.tasks.language import Language

TASKS = {
  'classify': Classify,
  'consistency': Consistency,
  'diffusion': Diffusion,
  'language': Language,
}
