"""The agent, collecting a batch, and learning from it."""
