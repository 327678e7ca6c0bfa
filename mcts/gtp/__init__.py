"""A Go engine for any controller that speaks the Go Text Protocol (GTP), version 2.

Read first `server.py` (lines in, responses out), then `session.py` (one game with one engine) and
`commands.py` (what each command does to it). `protocol.py` has the syntax of the standard,
`analysis.py` the formats that Lizzie, Sabaki, KaTrain and GoGui read.

Section numbers are those of Gunnar Farnebäck's draft 2 of October 2002; beside the standard's
commands stand the extensions of KGS, GoGui, Leela Zero and KataGo that controllers ask for.

Imports `mcts.engines` and `mcts.go`; is imported by `launch`.
"""
