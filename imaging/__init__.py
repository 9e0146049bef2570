"""Image diffusion with learned, anisotropic noise schedules (TOAD), on :mod:`genodiff.core`.

``imaging.toad`` is the model, ``networks`` its U-Net, ``datasets`` what it learns from, ``features`` and ``metrics``
what it is judged by; ``python -m imaging`` and ``genodiff imaging`` are the command line.
"""
