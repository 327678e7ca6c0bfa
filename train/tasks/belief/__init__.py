"""Task `belief`: a deep belief net, layer by layer and then whole (Hinton, Osindero and Teh 2006).

Read `models/boltzmann.py` and `models/dbn.py` first, then `schedule.py` (the stages of a run),
`updates.py` (a step of many mini-batches), `task.py`, `batches.py` (mini-batches with each class
alike), `pictures.py` (what it draws).
"""
