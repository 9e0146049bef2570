"""Sites as they follow one another in a file."""

from __future__ import annotations

import pytest

from data_prep.records import SiteOrder


def test_sites_in_order_are_placed() -> None:
    order = SiteOrder()
    for contig, position in (("2", 5), ("2", 5), ("2", 9), ("1", 3)):
        order.place(contig, position)
    assert (list(order.contigs), order.highest) == (["2", "1"], 9)


def test_a_site_that_goes_back_and_a_contig_in_two_places_are_refused() -> None:
    order = SiteOrder()
    order.place("1", 7)
    with pytest.raises(ValueError, match="1:6 lies before 1:7"):
        order.place("1", 6)
    order.place("2", 1)
    with pytest.raises(ValueError, match="contig 1 occurs in two places"):
        order.place("1", 8)
