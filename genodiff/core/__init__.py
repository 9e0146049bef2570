"""The mathematics: linear diffusions ``dX = M (X − μ) dτ + √β dW`` with a matrix drift diagonal in a chosen basis.

Modules, in reading order: :mod:`bases`, :mod:`schedules`, :mod:`processes`, :mod:`denoisers`, :mod:`losses`,
:mod:`samplers`, :mod:`training`. Noise that grows at its own pace in each subspace, on a learned schedule, is
:mod:`cosines`, :mod:`knots`, :mod:`subspaces`, :mod:`preconditioning`, :mod:`trajectory`, :mod:`speed` and
:mod:`learning`. Forward processes with learned noise and rotation are :mod:`blocks`, :mod:`rates`, :mod:`rotations`,
:mod:`flexible`, :mod:`langevin` and :mod:`riemannian`. Nothing here knows genomes or images.
"""
