"""The policy as files that need no trainer: one module per format, and the contract that each file carries."""
