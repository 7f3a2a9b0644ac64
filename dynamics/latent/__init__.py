"""A compact latent world model: Gaussians become tokens once, a transformer steps them under actions."""
