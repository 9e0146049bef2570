"""Image models on :mod:`genodiff.core`: the package is reserved, its models are not part of this release."""
