"""The task `dqn`: deep Q-networks (Mnih et al. 2015) on any environment of `data.environments`.

Read in this order: `settings.py` (the config's sections), `actor.py` (an agent acts in many
environments at once), `replay.py` (the rings of rows, and what is sampled of them), `targets.py`
(what a transition is worth), `source.py` (acting, writing and sampling as one program), `task.py`
(network, loss and evaluations, put together). Then `evaluate.py` (episodes that are measured and
shown) and `host.py` (environments that run on the host, such as Atari's).

Imported by `train.tasks` alone; imports no other task.
"""
