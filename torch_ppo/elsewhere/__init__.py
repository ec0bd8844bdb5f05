"""Our environments for other trainers: Gymnasium's interfaces, and RSL-RL's."""
