"""Search of a system prompt with dynamic rewards: DRPO (Singla et al. 2024, 2411.08733), alignment without training."""
