"""Engines, tasks, and the rules of an episode."""
