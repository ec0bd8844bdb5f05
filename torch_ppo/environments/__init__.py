"""Environments: what the trainer asks of any, and the ways to ours, to users' and to other libraries'."""
