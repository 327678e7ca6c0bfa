"""Tasks: what the training loop trains, one pillar a room.

Each room's `declaration.py` names its tasks and the launcher options of their verbs; it imports
nothing heavy. A task's class (`train.task.Task` is its contract) is imported when a run asks for it
by name, so that a run loads its own pillar alone. A new pillar is a room and a line here.
"""

from train.tasks import classify_declaration as classify
from train.tasks.adversarial import declaration as adversarial
from train.tasks.alphago import declaration as alphago
from train.tasks.belief import declaration as belief
from train.tasks.diffusion import declaration as diffusion
from train.tasks.dqn import declaration as dqn
from train.tasks.language import declaration as language
from train.tasks.selfplay import declaration as selfplay
from train.tasks.translation import declaration as translation
from train.tasks.words import declaration as words

DECLARATIONS = {
  **classify.TASKS,
  **words.TASKS,
  **language.TASKS,
  **translation.TASKS,
  **diffusion.TASKS,
  **selfplay.TASKS,
  **alphago.TASKS,
  **belief.TASKS,
  **adversarial.TASKS,
  **dqn.TASKS,
}

TASKS = {name: declaration.task for name, declaration in DECLARATIONS.items()}
"""Task name -> its class as 'module:name', which `train.config.resolve` imports."""
