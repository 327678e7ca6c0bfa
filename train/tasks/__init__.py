"""TASKS: one pillar a file; a new one is a class like `train.task.Task` and a line here."""

from train.tasks.classify import Classify
from train.tasks.consistency import Consistency
from train.tasks.diffusion import Diffusion
from train.tasks.go_policy import GoPolicy
from train.tasks.go_reinforce import GoReinforce
from train.tasks.go_value import GoValue
from train.tasks.go_value_play import GoValuePlay
from train.tasks.language import Language
from train.tasks.selfplay import SelfPlayTask

TASKS = {
  'classify': Classify,
  'consistency': Consistency,
  'diffusion': Diffusion,
  'go_policy': GoPolicy,
  'go_value': GoValue,
  'go_value_play': GoValuePlay,
  'go_reinforce': GoReinforce,
  'language': Language,
  'selfplay': SelfPlayTask,
}
