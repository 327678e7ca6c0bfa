"""Tasks: what the training loop trains, one pillar a room.

Each room's `declaration.py` names its tasks and the launcher options of their verbs; it imports
nothing heavy. A task's class (`train.task.Task` is its contract) is imported when a run asks for it
by name, so that a run loads its own pillar alone. A new pillar is a room and a line here.
"""

from train.tasks import classify_declaration as classify
from train.tasks.alphago import declaration as alphago
from train.tasks.diffusion import declaration as diffusion
from train.tasks.language import declaration as language
from train.tasks.selfplay import declaration as selfplay
from train.tasks.translation import declaration as translation

DECLARATIONS = {
  **classify.TASKS,
  **language.TASKS,
  **translation.TASKS,
  **diffusion.TASKS,
  **selfplay.TASKS,
  **alphago.TASKS,
}

TASKS = {name: declaration.task for name, declaration in DECLARATIONS.items()}
"""Task name -> its class as 'module:name', which `train.config.resolve` imports."""
