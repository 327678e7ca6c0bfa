"""TASKS: one pillar a file; a new one is a class like `train.task.Task` and a line here."""

from train.tasks.alphago.policy import GoPolicy
from train.tasks.alphago.reinforce import GoReinforce
from train.tasks.alphago.value import GoValue
from train.tasks.alphago.value_selfplay import GoValueSelfPlay
from train.tasks.classify import Classify
from train.tasks.diffusion.consistency import Consistency
from train.tasks.diffusion.task import Diffusion
from train.tasks.language.task import Language
from train.tasks.selfplay.task import SelfPlayTask

TASKS = {
  'classify': Classify,
  'consistency': Consistency,
  'diffusion': Diffusion,
  'go_policy': GoPolicy,
  'go_value': GoValue,
  'go_value_selfplay': GoValueSelfPlay,
  'go_reinforce': GoReinforce,
  'language': Language,
  'selfplay': SelfPlayTask,
}
