"""Checkpoints: orbax writes the arrays; what it leaves open is added here."""

from train.checkpoint.checkpointer import Checkpointer as Checkpointer
