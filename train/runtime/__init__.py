"""The process: how it starts, how it stops, and what it is to the others of its run.

`host.py` prepares it; `processes.py` joins the others, and `peers.py` goes down with them;
`preemption.py` stops it when asked to, `watchdog.py` when it is stuck; `ahead.py` limits how far it
runs ahead of the devices, `profile.py` traces it.
"""
