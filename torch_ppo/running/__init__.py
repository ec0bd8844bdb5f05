"""A run: its state, folder and checkpoints, signals, log and evaluation, and what is compiled and recorded."""
