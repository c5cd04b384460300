"""Claims on diffusion models: digits of 8x8 pixels, a denoiser of 160,000 parameters."""
