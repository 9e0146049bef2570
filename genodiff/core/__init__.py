"""The mathematics: linear diffusions ``dX = M (X − μ) dτ + √β dW`` with a matrix drift diagonal in a chosen basis.

Modules, in reading order: :mod:`bases`, :mod:`schedules`, :mod:`processes`, :mod:`denoisers`, :mod:`losses`,
:mod:`samplers`, :mod:`training`. Nothing here knows genomes or images.
"""
