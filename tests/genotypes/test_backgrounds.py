"""Haplotype backgrounds: clusters per tile, the posterior over paths, and rows taken out of their own."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genodiff.genotypes import backgrounds as module
from genodiff.genotypes import chains
from genodiff.genotypes.backgrounds import Backgrounds, Membership, windows

TILE, HALO, ROWS, SITES, COUNT = 16, 8, 60, 42, 4
ERROR, PATHS, PSEUDO, ANCHORS = module._ERROR, chains.PSEUDO_ROWS, module._PSEUDO_ROWS, 3
ANCHOR = torch.randint(0, ANCHORS, (ROWS,), generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return (torch.rand(ROWS, SITES, generator=torch.Generator().manual_seed(1)) < 0.4).float()


@pytest.fixture(scope="module", params=[1, 2], ids=["alleles", "dosages"])
def fitted(rows: Tensor, request: pytest.FixtureRequest) -> tuple[Backgrounds, Tensor]:
    generator = torch.Generator().manual_seed(2)
    states = rows * request.param
    return Backgrounds.fit(
        states,
        count=COUNT,
        tile=TILE,
        halo=HALO,
        generator=generator,
        anchor=ANCHOR,
        anchors=ANCHORS,
        ploidy=request.param,
    )


def evidence(seed: int, n: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, SITES, generator=generator), 4 * torch.rand(n, SITES, generator=generator)


def rebuilt(states: Tensor, members: Tensor, anchor: Tensor, prior: Tensor, like: Backgrounds) -> Backgrounds:
    """Backgrounds of given rows with given memberships, counted by hand."""
    tiles, m = members.shape[1], like.count
    means, sizes, paths, anchored = torch.zeros_like(like.means), torch.zeros(tiles, m), [], []
    for t, k in itertools.product(range(tiles), range(m)):
        inside = states[members[:, t] == k][:, t * TILE : (t + 1) * TILE]
        sizes[t, k] = len(inside)
        centre = PSEUDO * prior[t * TILE : (t + 1) * TILE]
        means[t, : inside.shape[1], k] = (inside.sum(0) + centre) / (len(inside) + PSEUDO)
    for t, i, j in itertools.product(range(tiles - 1), range(m), range(m)):
        number = int(((members[:, t] == i) & (members[:, t + 1] == j)).sum())
        if number:
            paths.append([t, i * m + j, number])
    for t, a, k in itertools.product(range(tiles), range(ANCHORS), range(m)):
        number = int(((anchor == a) & (members[:, t] == k)).sum())
        if number:
            anchored.append([t, a * m + k, number])
    return Backgrounds(
        means,
        like.variance,
        sizes,
        torch.tensor(paths).T,
        torch.tensor(anchored).T,
        like.share,
        like.pseudo,
        tile=TILE,
        ploidy=like.ploidy,
    )


def steps(made: Backgrounds) -> Tensor:
    """Probability of background j in tile t + 1 given i in tile t, (tiles − 1, M, M)."""
    return torch.stack([made.chain.ahead(t, torch.eye(made.count)) for t in range(len(made.means) - 1)])


def by_enumeration(made: Backgrounds, h: Tensor, p: Tensor, anchor: int | None) -> Tensor:
    """Implied states of one row, every path of backgrounds by itself."""
    ploidy, tiles, m = made.ploidy, len(made.means), made.count
    h, p = h.double(), p.double()
    odds = torch.exp(h - p / 2)
    one, zero = ERROR + (1 - ERROR) * odds, 1 - ERROR + ERROR * odds
    count = torch.zeros(tiles - 1, m, m, dtype=torch.float64)
    for t, pair, number in made.paths.T.tolist():
        count[t, pair // m, pair % m] = number
    strangers = float(made.pseudo)
    affinity = torch.ones(tiles, m, dtype=torch.float64)
    if anchor is not None:
        there = torch.zeros(tiles, m, dtype=torch.float64)
        for t, pair, number in made.anchored.T.tolist():
            if pair // m == anchor:
                there[t, pair % m] = number
        affinity = (there + strangers * float(made.share[anchor])) / (made.sizes.double() + strangers)
    total, weighted = 0.0, torch.zeros(SITES, dtype=torch.float64)
    for path in itertools.product(range(m), repeat=tiles):
        a = torch.cat([made.means[t, :, k] for t, k in enumerate(path)])[:SITES].double()
        log = float((made.sizes[0, path[0]].double() * affinity[0, path[0]]).log())
        for t in range(tiles - 1):
            row = count[t, path[t]] + PATHS * (made.sizes[t + 1] > 0) / (made.sizes[t + 1] > 0).sum()
            row = row * affinity[t + 1]
            log += float((row[path[t + 1]] / row.sum()).log())
        if ploidy == 1:
            log += float((a * one.log() + (1 - a) * zero.log()).sum())
            state = a * (1 - ERROR) * odds / one + (1 - a) * ERROR * odds / zero
        else:
            noise = 1 / p + made.variance.flatten()[:SITES].double()
            log += float(-0.5 * ((h / p - a).square() / noise).sum() + 0.5 * ((h / p).square() / noise).sum())
            state = a
        weight = torch.tensor(log, dtype=torch.float64).exp()
        total, weighted = total + weight, weighted + weight * state
    return weighted / total


def test_windows_overlap_and_are_padded_with_zeros() -> None:
    x = torch.arange(1.0, 8.0).unsqueeze(0)
    assert windows(x, 4, 1)[:, 0].tolist() == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 0, 0]]
    assert windows(x, 4, 1, offset=3)[:, 0].tolist() == [[0, 0, 0, 0, 1, 2], [1, 2, 3, 4, 5, 6], [5, 6, 7, 0, 0, 0]]


def test_means_sizes_and_paths_are_those_of_the_members(rows: Tensor, fitted: tuple[Backgrounds, Tensor]) -> None:
    made, members = fitted
    states = rows * made.ploidy
    again = rebuilt(states, members, ANCHOR, states.mean(0), made)
    torch.testing.assert_close(made.means, again.means)
    torch.testing.assert_close(made.sizes, again.sizes)
    torch.testing.assert_close(steps(made), steps(again))
    torch.testing.assert_close(made.anchored, again.anchored)
    assert made.paths[2].sum() == ROWS * (len(made.means) - 1)
    torch.testing.assert_close(made.share.sum(), torch.tensor(1.0))


def test_every_background_averages_several_rows(fitted: tuple[Backgrounds, Tensor]) -> None:
    made, _ = fitted
    used = made.sizes[made.sizes > 0]
    assert used.min() >= module.LEAST_ROWS
    assert (made.sizes.sum(1) == ROWS).all()


def test_steps_are_probabilities(fitted: tuple[Backgrounds, Tensor]) -> None:
    made, _ = fitted
    torch.testing.assert_close(steps(made).sum(-1), torch.ones(len(made.means) - 1, made.count))


@pytest.mark.parametrize("anchored", [False, True], ids=["of no anchor", "of an anchor"])
def test_implied_states_are_those_of_all_paths_weighed(fitted: tuple[Backgrounds, Tensor], anchored: bool) -> None:
    made, _ = fitted
    h, p = evidence(3)
    implied = made(h, p, anchor=ANCHOR if anchored else None)
    for row in (0, 7):
        expected = by_enumeration(made, h[row], p[row], int(ANCHOR[row]) if anchored else None)
        torch.testing.assert_close(implied[row].double(), expected, atol=2e-5, rtol=1e-4)


def test_one_precision_for_all_rows_is_a_row_of_it(fitted: tuple[Backgrounds, Tensor]) -> None:
    made, _ = fitted
    h, p = evidence(4)
    torch.testing.assert_close(made(h, p[:1]), made(h, p[:1].expand_as(h)))


@pytest.mark.parametrize("anchored", [False, True], ids=["of no anchor", "of an anchor"])
def test_rows_left_out_meet_backgrounds_without_themselves(
    rows: Tensor, fitted: tuple[Backgrounds, Tensor], anchored: bool
) -> None:
    made, members = fitted
    states, h_p = rows * made.ploidy, evidence(5)
    anchor = ANCHOR if anchored else None
    together = made(*h_p, anchor=anchor, leave_out=Membership(states, members))
    for row in (0, 11, 59):
        others = torch.arange(ROWS) != row
        # The pseudo-row is a constant of the fit and stays where it is.
        without = rebuilt(states[others], members[others], ANCHOR[others], states.mean(0), made)
        one = slice(row, row + 1)
        expected = without(h_p[0][one], h_p[1][one], anchor=None if anchor is None else anchor[one])
        torch.testing.assert_close(together[one], expected, atol=2e-5, rtol=1e-3)


def test_paths_drawn_have_the_law_of_the_posterior(fitted: tuple[Backgrounds, Tensor]) -> None:
    made, _ = fitted
    if made.ploidy == 2:
        pytest.skip("paths are drawn of alleles")
    (h, p), many = evidence(8, 1), 20_000
    same = [x.expand(many, -1) for x in (h, p)]
    anchor = torch.full((many,), 2)
    drawn, overall = made.draw(*same, anchor=anchor, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(overall[0], made(h, p, anchor=anchor[:1])[0], atol=1e-5, rtol=1e-4)
    # A mean of 20,000 draws within [0, 1] has a standard error of at most .0036.
    torch.testing.assert_close(drawn.mean(0), overall[0], atol=0.018, rtol=0.0)
    # Of one background in a tile: what is drawn takes on one value per path of the tile.
    assert len(drawn[:, :TILE].unique(dim=0)) <= made.count


def test_rows_of_an_anchor_walk_on_its_backgrounds() -> None:
    """Two kinds of rows in every tile, each of an anchor of its own: without evidence the anchor decides."""
    kind = torch.arange(ROWS) % 2
    rows = kind.float().unsqueeze(1).expand(-1, 3 * TILE).clone()
    made, _ = Backgrounds.fit(
        rows, count=2, tile=TILE, halo=0, generator=torch.Generator().manual_seed(1), anchor=kind, anchors=2
    )
    nothing = torch.zeros(2, 3 * TILE)
    implied = made(nothing, nothing, anchor=torch.tensor([0, 1]))
    assert (implied[0] < 0.1).all()
    assert (implied[1] > 0.9).all()


def test_a_run_is_the_chain_cut_at_its_ends(fitted: tuple[Backgrounds, Tensor]) -> None:
    made, _ = fitted
    h, p = evidence(6)
    silent = torch.zeros_like(h)
    silent[:, TILE + 4 :] = 1.0
    # Sites without evidence change nothing but the way into the run, which is short of what the first tile says.
    cut = made(h[:, TILE + 4 :], p[:, TILE + 4 :], first_site=TILE + 4)
    assert cut.shape == (ROWS, SITES - TILE - 4)
    whole = made(h * silent, p * silent)[:, TILE + 4 :]
    torch.testing.assert_close(cut, whole, atol=0.05, rtol=0.2)


def test_without_evidence_the_frequencies_are_those_of_the_rows(rows: Tensor) -> None:
    made, _ = Backgrounds.fit(rows, count=COUNT, tile=TILE, halo=HALO, generator=torch.Generator().manual_seed(2))
    nothing = torch.zeros(1, SITES)
    expected = rows.mean(0) * (1 - 2 * ERROR) + ERROR
    torch.testing.assert_close(made(nothing, nothing)[0], expected, atol=0.02, rtol=0.05)


def test_rows_that_are_alike_are_one_background() -> None:
    kinds = torch.tensor([[0.0] * 8, [1.0] * 8])
    states = kinds[torch.arange(40) % 2]
    made, members = Backgrounds.fit(states, count=10, tile=8, halo=0, generator=torch.Generator().manual_seed(1))
    assert (made.sizes > 0).sum() == 2
    assert (members[::2] == members[0]).all()
    assert (members[1::2] == members[1]).all()


def test_a_region_of_one_tile_has_no_paths(rows: Tensor) -> None:
    made, members = Backgrounds.fit(rows, count=3, tile=64, halo=8, generator=torch.Generator().manual_seed(1))
    h, p = evidence(7)
    alone = made(h, p, leave_out=Membership(rows, members))
    assert made.paths.shape == (3, 0)
    assert members.shape == (ROWS, 1)
    assert torch.isfinite(alone).all()
    assert not torch.allclose(alone, made(h, p))


@pytest.mark.parametrize("strength", [0.5, 8.0])
def test_counts_are_believed_as_far_as_rows_left_out_say(strength: float) -> None:
    """Rows of 400 groups whose kinds scatter about a common law with that concentration."""
    rng = np.random.default_rng(5)
    law = np.array([0.5, 0.3, 0.15, 0.05])
    counts = torch.from_numpy(np.stack([rng.multinomial(20, rng.dirichlet(strength * law)) for _ in range(400)]))
    group, kind = torch.nonzero(counts, as_tuple=True)
    rows, of, prior = counts[group, kind], torch.full_like(group, 20), torch.from_numpy(law)[kind]
    found = float(module._pseudo_count(rows, of, prior))
    assert strength / 1.6 < found < strength * 1.6

    def one_by_one(a: float) -> float:
        return sum(int(n) * math.log((int(n) - 1 + a * float(q)) / (19 + a)) for n, q in zip(rows, prior, strict=True))

    best = max(module._PSEUDO_ANCHORS.tolist(), key=one_by_one)
    assert found == pytest.approx(best)


@pytest.mark.parametrize("left_out", [False, True], ids=["all", "left out"])
def test_looking_anchors_up_in_blocks_changes_nothing(
    rows: Tensor, fitted: tuple[Backgrounds, Tensor], left_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, members = fitted
    leave_out = Membership(rows * made.ploidy, members) if left_out else None
    whole = made(*evidence(10), anchor=ANCHOR, leave_out=leave_out)
    monkeypatch.setattr(module, "_BLOCK", 1)
    torch.testing.assert_close(made(*evidence(10), anchor=ANCHOR, leave_out=leave_out), whole)


def test_products_are_the_same_without_sparse_matrices(
    rows: Tensor, fitted: tuple[Backgrounds, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, members = fitted
    leave_out = Membership(rows * made.ploidy, members)
    sparse = made(*evidence(11), anchor=ANCHOR, leave_out=leave_out)
    for form in (chains._coo, chains._dense):
        monkeypatch.setattr(chains, "_form", lambda device, form=form: form)
        other = copy.deepcopy(made)
        torch.testing.assert_close(other(*evidence(11), anchor=ANCHOR, leave_out=leave_out), sparse)


def test_backgrounds_that_were_used_can_be_converted(fitted: tuple[Backgrounds, Tensor]) -> None:
    made, _ = fitted
    h, p = evidence(12)
    single = made(h, p, anchor=ANCHOR)
    double = copy.deepcopy(made).double()(h.double(), p.double(), anchor=ANCHOR)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=1e-4)


def test_backgrounds_of_nobody_do_not_drown_the_others() -> None:
    """A row midway between the two backgrounds of its first tile, where a third, empty one lies."""
    whole, nobody = torch.tensor([[0.0], [2.0]]).expand(2, TILE), torch.zeros(1, TILE)
    means = torch.stack([torch.cat([whole, nobody + 1]), torch.cat([whole, nobody + 2])]).transpose(1, 2)
    sizes = torch.tensor([[30.0, 30.0, 0.0], [20.0, 20.0, 20.0]])
    paths = torch.tensor([[0, 0, 0], [0, 4, 5], [30, 10, 20]])
    kin = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 1, 2], [30, 30, 20, 20, 20]])
    one, few = torch.ones(1), torch.tensor(0.3)
    made = Backgrounds(means, torch.full((2, TILE), 1e-3), sizes, paths, kin, one, few, tile=TILE, ploidy=2)
    seen = torch.cat([torch.ones(TILE), torch.full((TILE,), 2.0)]).unsqueeze(0)
    implied = made(seen / 0.05, torch.full_like(seen, 1 / 0.05))
    torch.testing.assert_close(implied[0, TILE:], torch.full((TILE,), 2.0), atol=0.05, rtol=0.0)
