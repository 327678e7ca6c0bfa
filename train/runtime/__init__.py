"""The process: how it starts (`host.py`), stops (`preemption.py`) and runs ahead (`ahead.py`)."""
