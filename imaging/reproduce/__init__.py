"""Experiments of the TOAD paper in small: ``toad`` runs one, ``stages`` keeps what is done, ``page`` shows it."""
