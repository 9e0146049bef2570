"""Moments of genotypes under differential privacy: the accountant, the noise, and what is released."""
