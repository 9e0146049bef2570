"""Experiments of the papers in small: ``toad`` and ``fp`` run one each.

``stages`` keeps what is done, ``judge`` compares images, ``parts`` are those of every page.
"""
