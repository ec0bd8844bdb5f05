"""Policies of other trainers as ours: one module per trainer, each from the arrays of its checkpoint, and back to Brax."""
