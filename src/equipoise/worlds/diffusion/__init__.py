"""A world of images and a diffusion model: a response is an image, its score minus half a denoising error."""
