"""Rare sites: given the common ones they need no diffusion, only the background they lie on.

An allele that few people carry arose recently on one haplotype and is still surrounded by it. Common sites are drawn by
the diffusion; a rare site j is then drawn given the background b and the anchor a of the complete haplotype, with

    p(j | b, a) = (c_jb + α q_ja) / (n_b + α),        q_ja = g_j (c_ja + β f_j) / (n_a + β),

c the carriers and n the rows learned from on a background or anchor, f_j the frequency of the minor allele. α and β are
the strengths of shrinkage under which rows left out one at a time are likeliest, for α the rows backgrounds were not
made of. The factor g_j and a factor on the odds of p keep f_j.

Alleles of one branch of the genealogy have nested carriers. Every rare site follows at most one relative within reach,
the site of more carriers that it shares most with: given the relative's allele its own is drawn so that it lies inside
it as often as in the data, and its probability given the background is what it was. Equal carriers stay equal.

An allele that one person alone carries would tell that person's background apart, and two of them would be a signature.
Such an allele is drawn given its anchor only, a mean over dozens of rows, and independently of all others; no site
follows a relative that it shares with fewer than two people. Rows are haplotypes; dosages have no background of their
own, and a model of them draws its rare sites by the diffusion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from data_prep.variants import MISSING

__all__ = ["LEAST_COMMON", "LEAST_PEOPLE", "Rare", "fit_rare", "is_rare", "relatives", "strength"]

LEAST_COMMON = 200
"""Fewest common sites that tell backgrounds apart; with fewer all sites are drawn by the diffusion."""

LEAST_PEOPLE = 2
"""Fewest people who carry an allele that is placed on backgrounds."""

_LEAST_ROWS = 3
_REACH = 500
_CONTAINED = 0.5
_ROWS_CALIBRATED = 100
_STRENGTHS = np.geomspace(0.03, 300, 41)
_LARGEST_TILT = 1e-6, 1e6
_ROUNDS = 12
_CHUNK = 1000


@dataclass(frozen=True)
class Rare:
    """What rare alleles depend on.

    Attributes:
        sites: indices of the rare sites among all sites, ascending, (r,).
        mirrored: whether REF is the minor allele, (r,).
        frequency: of the minor allele among the rows learned from, f, (r,).
        shared: whether at least two people carry it, (r,).
        tile: tile whose background it depends on, (r,).
        order: the order in which sites are drawn, every one after its relative, (r,).
        relative: place among the rare sites of the one it follows, or −1, (r,).
        inside: share of its carriers that carry the relative's allele, (r,).
        scale: factor on the odds of p that keeps the frequency among the rows learned from, (r,).
        on_background: carriers by background, columns (site, background, carriers), ascending by site, int64 (3, ·).
        on_anchor: carriers by anchor likewise.
        backgrounds: rows on every background, n_b, (tiles, M).
        anchors: rows of every anchor, n_a, (A,).
        strengths: α and β in rows, (2,).
    """

    sites: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    frequency: NDArray[np.float64]
    shared: NDArray[np.bool_]
    tile: NDArray[np.int64]
    order: NDArray[np.int64]
    relative: NDArray[np.int64]
    inside: NDArray[np.float64]
    scale: NDArray[np.float64]
    on_background: NDArray[np.int64]
    on_anchor: NDArray[np.int64]
    backgrounds: NDArray[np.int64]
    anchors: NDArray[np.int64]
    strengths: NDArray[np.float64]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def given_anchor(self, site: int) -> NDArray[np.float64]:
        """q, the probability of the minor allele of a rare site given every anchor, (A,)."""
        n, f, beta = self.anchors, self.frequency[site], self.strengths[1]
        q = (self._dense(self.on_anchor, site, len(n)) + beta * f) / (n + beta)
        return np.minimum(q * (f * n.sum() / max((n * q).sum(), 1e-300)), 1.0)

    def given_background(
        self, site: int, background: NDArray[np.integer], anchor: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """p, the probability of the minor allele of a rare site for rows of some backgrounds and anchors, (n,).

        Args:
            site: place among the rare sites.
            background: background of every row in the tile of the site, (n,).
            anchor: anchor of every row, (n,).
        """
        q = self.given_anchor(site)[anchor]
        if not self.shared[site]:
            return q
        n, alpha = self.backgrounds[self.tile[site]], self.strengths[0]
        # A background of fewer rows would be somebody's copy, and says nothing.
        large = n >= _LEAST_ROWS
        carriers = np.where(large, self._dense(self.on_background, site, len(n)), 0.0)
        p = (carriers[background] + alpha * q) / (np.where(large, n, 0)[background] + alpha)
        return tilted(p, float(self.scale[site]))

    def draw(
        self, paths: NDArray[np.integer], anchor: NDArray[np.integer], *, rng: np.random.Generator
    ) -> NDArray[np.int8]:
        """States at the rare sites of new rows, (n, r).

        Among many rows, frequencies are held at those of the rows' anchors, however the rows fell on backgrounds; of
        few rows the background alone decides.

        Args:
            paths: background of every row in every tile, (n, tiles).
            anchor: anchor of every row, (n,).
            rng: source of the alleles.
        """
        rows = len(paths)
        out = np.zeros((rows, len(self.sites)), dtype=np.int8)
        hold = np.full(len(self.sites), 1.0)
        for j in self.order[self.frequency[self.order] > 0].tolist():
            background = paths[:, self.tile[j]]
            p = self.given_background(j, background, anchor)
            if self.shared[j]:
                aim = self.given_anchor(j)[anchor].mean()
                hold[j] = tilt(p, aim) ** (rows / (rows + _ROWS_CALIBRATED))
                p = tilted(p, hold[j])
            k = int(self.relative[j])
            if k >= 0:
                above = tilted(self.given_background(k, background, anchor), hold[k])
                p = follow(p, above, out[:, k], inside=float(self.inside[j]))
            out[:, j] = rng.random(rows) < p
        return np.where(self.mirrored, 1 - out, out).astype(np.int8)

    def _dense(self, counts: NDArray[np.int64], site: int, length: int) -> NDArray[np.float64]:
        lo, hi = np.searchsorted(counts[0], (site, site + 1))
        out = np.zeros(length)
        out[counts[1, lo:hi]] = counts[2, lo:hi]
        return out


def tilted(p: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Probabilities whose odds are multiplied, (n,)."""
    return factor * p / (1 - p + factor * p)


def tilt(p: NDArray[np.float64], aim: float) -> float:
    """The factor on the odds of probabilities that gives them a mean, in (0, 1); within 10⁻⁶ and 10⁶."""
    lo, hi = _LARGEST_TILT
    factor = 1.0
    for _ in range(_ROUNDS):
        factor = float(np.clip(factor * aim / max(tilted(p, factor).mean(), 1e-300), lo, hi))
    return factor


def follow(
    p: NDArray[np.float64], above: NDArray[np.float64], state: NDArray[np.int8], *, inside: float
) -> NDArray[np.float64]:
    """Probability of an allele given the state of its relative, (n,); over that state it averages to p.

    Args:
        p: probability of the allele, (n,).
        above: probability of the relative's allele, (n,).
        state: whether the relative's allele is there, (n,).
        inside: share of the allele's carriers that carry the relative's.
    """
    within = np.minimum(inside * p / np.maximum(above, 1e-300), 1.0)
    without = (p - above * within) / np.maximum(1 - above, 1e-12)
    return np.where(state > 0, within, np.clip(without, 0.0, 1.0))


def is_rare(frequency: NDArray[np.float64], *, below: float, ploidy: int) -> NDArray[np.bool_]:
    """Which sites are drawn given the others, (sites,): none of dosages, and none where too few sites are common."""
    found = np.minimum(frequency, 1 - frequency) < below
    return found & (ploidy == 1 and int((~found).sum()) >= LEAST_COMMON)


def fit_rare(
    states: NDArray[np.int8],
    *,
    rare: NDArray[np.bool_],
    drawn: NDArray[np.int64],
    frequency: NDArray[np.float64],
    paths: NDArray[np.integer],
    tile: int,
    backgrounds: int,
    anchor: NDArray[np.integer],
    anchors: int,
    per_person: int,
    fresh: NDArray[np.bool_],
) -> Rare:
    """Counts the carriers of rare alleles on backgrounds and anchors.

    Args:
        states: int8 (rows, sites), −1 where unknown; rows of one person are consecutive.
        rare: which sites are rare, (sites,).
        drawn: indices of the sites that backgrounds are made of, ascending.
        frequency: of the ALT allele, (sites,).
        paths: background of every row in every tile, (rows, tiles).
        tile: drawn sites per tile.
        backgrounds: most backgrounds per tile M.
        anchor: anchor of every row, (rows,).
        anchors: number of anchors A.
        per_person: rows per person.
        fresh: rows that backgrounds were not made of, (rows,); only they tell how far backgrounds are to be trusted.
    """
    sites = np.flatnonzero(rare)
    mirrored = frequency[sites] > 0.5
    carried = _carriers(states, sites, mirrored)
    person = sp.csr_array(
        (np.ones(len(states), dtype=np.int32), (np.arange(len(states)) // per_person, np.arange(len(states))))
    )
    count = np.diff(carried.indptr)
    people = np.diff((person @ carried).tocsc().indptr)
    shared = people >= LEAST_PEOPLE
    order = np.argsort(-count, kind="stable")
    relative, inside = relatives(carried, person, sites=sites, order=order, shared=shared)
    at = np.searchsorted(drawn, sites).clip(1, len(drawn) - 1)
    nearest = at - (sites - drawn[at - 1] <= drawn[at] - sites)
    home = nearest // tile
    root = np.arange(len(sites))
    for j in order.tolist():
        k = int(relative[j])
        if k >= 0 and abs(sites[root[k]] - sites[j]) <= _REACH:
            root[j], home[j] = root[k], home[k]
        else:
            relative[j] = -1
    tiles = paths.shape[1]
    sizes = np.stack([np.bincount(paths[:, t], minlength=backgrounds) for t in range(tiles)])
    of_anchor = np.bincount(anchor, minlength=anchors)
    site = np.repeat(np.arange(len(sites)), count)
    row = carried.indices
    background = paths[row, home[site]]
    on_anchor = _counted(site, anchor[row], anchors)
    on_background = _counted(site[shared[site]], background[shared[site]], backgrounds)
    f = np.where(mirrored, 1 - frequency[sites], frequency[sites])
    some = shared[site]
    beta = strength(site[some], anchor[row[some]], of_anchor, prior=f[site[some]] * (1 - 1 / count[site[some]]))
    # The prior of a background is the carrier's anchor without the carrier itself.
    others = _at(on_anchor, site[some], anchor[row[some]], anchors) - 1
    q = (others + beta * f[site[some]]) / (of_anchor[anchor[row[some]]] - 1 + beta)
    key = home[site[some]] * backgrounds + background[some]
    alpha = strength(
        site[some], key, sizes.ravel(), prior=q, partitions=tiles, judged=fresh[row[some]], share=float(fresh.mean())
    )
    found = Rare(
        sites=sites,
        mirrored=mirrored,
        frequency=f,
        shared=shared,
        tile=home.astype(np.int64),
        order=order,
        relative=relative,
        inside=inside,
        scale=np.ones(len(sites)),
        on_background=on_background,
        on_anchor=on_anchor,
        backgrounds=sizes,
        anchors=of_anchor,
        strengths=np.array([alpha, beta]),
    )
    for j in np.flatnonzero(shared).tolist():
        found.scale[j] = tilt(found.given_background(j, paths[:, home[j]], anchor), float(f[j]))
    return found


def strength(
    site: NDArray[np.integer],
    group: NDArray[np.integer],
    sizes: NDArray[np.integer],
    *,
    prior: NDArray[np.float64],
    partitions: int = 1,
    judged: NDArray[np.bool_] | None = None,
    share: float = 1.0,
) -> float:
    """Strength of shrinkage, in rows, under which every row is likeliest given all others.

    A row of a group of n with c carriers carries the allele with (c + α q) / (n − 1 + α), itself not counted. Rows
    that carry no allele in a group where nobody does enter by the first order of their logarithm.

    Args:
        site: site of every carrier, (carriers,).
        group: group of every carrier.
        sizes: rows of every group.
        prior: q at every carrier, without the carrier itself.
        partitions: into how many sets of groups the rows are divided, of which a site has one.
        judged: carriers whose likelihood counts, all if ``None``. Where none does, the strength is one row.
        share: of such rows among all.
    """
    judged = np.ones(len(site), dtype=bool) if judged is None else judged
    if not judged.any():
        return 1.0
    pairs, where, c = np.unique(np.stack([site, group]), axis=1, return_inverse=True, return_counts=True)
    where = where.ravel()
    q = np.bincount(where, prior) / c
    n = sizes[pairs[1]]
    per_site = np.unique(site, return_inverse=True)[1]
    usual = (np.bincount(per_site, prior) / np.bincount(per_site)).sum()
    best, most = 1.0, -np.inf
    for alpha in _STRENGTHS:
        carrying = np.log(np.maximum((c[where] - 1 + alpha * prior) / (n[where] - 1 + alpha), 1e-12))[judged].sum()
        beside = (n - c) * np.log1p(-np.minimum((c + alpha * q) / (n - 1 + alpha), 1 - 1e-6))
        elsewhere = -usual / partitions * (sizes * alpha / np.maximum(sizes - 1 + alpha, alpha)).sum()
        counted = (n * alpha * q / (n - 1 + alpha)).sum()
        total = carrying + share * (beside.sum() + elsewhere + counted)
        if total > most:
            best, most = float(alpha), float(total)
    return best


def relatives(
    carried: sp.csc_array,
    person: sp.csr_array,
    *,
    sites: NDArray[np.int64],
    order: NDArray[np.int64],
    shared: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The site each one follows, or −1, and the share of its carriers that carry that site's allele too, (r,) each.

    Args:
        carried: which rows carry the minor allele of which rare site, (rows, r).
        person: which rows are of which person, (people, rows).
        sites: indices of the rare sites among all sites.
        order: the rare sites by falling number of carriers.
        shared: which of them at least two people carry.
    """
    r = len(sites)
    rank = np.empty(r, dtype=np.int64)
    rank[order] = np.arange(r)
    count = np.diff(carried.indptr)
    of_people = (person @ carried).tocsc()
    of_people.data[:] = 1
    relative, inside = np.full(r, -1, dtype=np.int64), np.ones(r)
    for lo, hi in _chunks(r):
        first, last = np.searchsorted(sites, (sites[lo] - _REACH, sites[hi - 1] + _REACH + 1))
        both = (carried[:, lo:hi].T @ carried[:, first:last]).tocsr()
        known = (of_people[:, lo:hi].T @ of_people[:, first:last]).multiply(both > 0).tocsr()
        both.sort_indices()
        known.sort_indices()
        a, b = (c + start for c, start in zip(both.tocoo().coords, (lo, first), strict=True))
        fits = (rank[b] < rank[a]) & shared[a] & shared[b] & (np.abs(sites[a] - sites[b]) <= _REACH)
        fits &= (both.data >= _CONTAINED * count[a]) & (known.data >= LEAST_PEOPLE)
        a, b, common = a[fits], b[fits], both.data[fits]
        likeness = common**2 / (count[a] * count[b])
        chosen = np.lexsort((np.abs(sites[a] - sites[b]), -likeness, a))
        a, at = np.unique(a[chosen], return_index=True)
        relative[a], inside[a] = b[chosen][at], common[chosen][at] / count[a]
    return relative, inside


def _carriers(states: NDArray[np.int8], sites: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> sp.csc_array:
    """Which rows carry the minor allele of which rare site, (rows, r); unknown states do not."""
    rows, starts = [], [np.zeros(1, dtype=np.int64)]
    for lo, hi in _chunks(len(sites)):
        part = states[:, sites[lo:hi]]
        minor = (part == np.where(mirrored[lo:hi], 0, 1)) & (part != MISSING)
        rows.append(np.nonzero(minor.T)[1])
        starts.append(minor.sum(0))
    index = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    return sp.csc_array(
        (np.ones(len(index), dtype=np.int32), index, np.concatenate(starts).cumsum()), shape=(len(states), len(sites))
    )


def _chunks(length: int) -> Iterator[tuple[int, int]]:
    return ((lo, min(lo + _CHUNK, length)) for lo in range(0, length, _CHUNK))


def _counted(site: NDArray[np.integer], group: NDArray[np.integer], groups: int) -> NDArray[np.int64]:
    """Columns (site, group, number), ascending by site and group, (3, ·)."""
    key, number = np.unique(site.astype(np.int64) * groups + group, return_counts=True)
    return np.stack([key // groups, key % groups, number])


def _at(
    counts: NDArray[np.int64], site: NDArray[np.integer], group: NDArray[np.integer], groups: int
) -> NDArray[np.int64]:
    """Numbers at some sites and groups that were counted."""
    at: NDArray[np.int64] = np.searchsorted(counts[0] * groups + counts[1], site.astype(np.int64) * groups + group)
    return counts[2, at]
