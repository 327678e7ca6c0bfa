"""Training: one loop for every task, the run folder, and the verbs of the launcher.

Read in this order: `task.py` (what is trained, the contract), `step.py` (the compiled step under
jit and pmap), `loop.py` (the loop), `mesh.py` (devices and sharding), `config.py` (a section of a
config is one constructor's keyword arguments), `optim.py`; then `checkpoint/`, `logging/` and
`runtime/` as needed.

These are the core and import nothing else of ours but `models.cpu` for the order of updates. Above
it: `tasks/` (one pillar a room), `sections.py` (what a config chooses from), `verbs.py` (train,
eval, sample), `play.py`, `convert.py`, `report/` (pages and tables), `cli/` (options and help).
`run.py` opens another run's weights without its task or data.
"""
