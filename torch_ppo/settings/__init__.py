"""The configuration: its fields, their rules, its files, and what its numbers amount to."""
