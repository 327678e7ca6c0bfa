"""The command line: the verbs and their options, the help, the texts of options.

`commands.py` has the verbs; a task declares its own options (`train/declaration.py`). `launch.py`
alone imports this room.
"""
