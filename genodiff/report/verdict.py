"""The verdict: which targets the metrics meet, said in plain words and no louder than the data allow.

All thresholds are in :data:`TARGETS`. A target that cannot be judged, because its metric is absent or not a number or
because the held-out people are too few, counts neither as met nor as missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

__all__ = ["SMALL", "TARGETS", "TOO_FEW", "Aspect", "Check", "Target", "Verdict", "judge"]

SMALL = 100
"""Held-out haplotypes below which the verdict says that its checks prove little."""

TOO_FEW = 40
"""Held-out haplotypes below which nothing is judged: the floor itself is noise."""


@dataclass(frozen=True)
class Rule:
    """How a value is held against its floor or against a constant.

    Attributes:
        words: the rule as text, ``{limit}`` and ``{floor}`` to be filled in.
        holds: (value, floor, limit) → whether the target is met.
        needs_floor: whether the rule cannot be applied without a floor.
    """

    words: str
    holds: Callable[[float, float, float], bool]
    needs_floor: bool = True


AT_MOST_FLOORS = Rule("at most {limit} × the floor of {floor}", lambda v, f, x: v <= x * f)
AT_LEAST_FLOORS = Rule("at least {limit} × the floor of {floor}", lambda v, f, x: v >= x * f)
NEAR_FLOOR = Rule("within {limit} of the floor of {floor}", lambda v, f, x: abs(v - f) <= x)
NEAR_HELD_OUT = Rule("within {limit} of {floor} in held-out people", lambda v, f, x: abs(v - f) <= x)
AT_MOST_FLOOR = Rule("at most the floor of {floor}", lambda v, f, x: v <= f)
NEAR_ONE = Rule("within {limit} of 1", lambda v, f, x: abs(v - 1) <= x, needs_floor=False)
AT_MOST = Rule("at most {limit}", lambda v, f, x: v <= x, needs_floor=False)


@dataclass(frozen=True)
class Target:
    """One threshold.

    Attributes:
        aspect: ``fidelity`` or ``privacy``.
        metric: name of the metric in the frame.
        label: the metric in words.
        rule: how it is compared.
        limit: the number in the rule.
        reference: metric whose value takes the place of the floor; ``None`` for the floor itself.
        above: what it means to miss the target by a value that is too high, where that is another failure than by one
            that is too low.
    """

    aspect: str
    metric: str
    label: str
    rule: Rule
    limit: float
    reference: str | None = None
    above: str = ""


_TOO_FAR = "too unlike real people, which is no sign of copying"
_TOO_ALIKE = "synthetic people are nearer to each other than to real ones"

TARGETS = (
    Target("fidelity", "af_mae", "allele-frequency error", AT_MOST_FLOORS, 1.15),
    Target("fidelity", "ld_decay_mae", "LD-decay error", AT_MOST_FLOORS, 4.0),
    Target("fidelity", "near_pair_r2_ratio", "near-pair r² ratio", NEAR_ONE, 0.05),
    Target("fidelity", "three_point_r", "three-point correlation", AT_LEAST_FLOORS, 0.95),
    Target("fidelity", "pca_w2", "PCA Wasserstein distance", AT_MOST_FLOORS, 1.15),
    Target("fidelity", "recall", "recall", AT_LEAST_FLOORS, 0.9),
    Target("fidelity", "f_is", "inbreeding coefficient F_IS", NEAR_HELD_OUT, 0.02, reference="f_is_holdout"),
    Target("fidelity", "c2st_auc", "C2ST", AT_MOST, 0.75),
    Target("privacy", "aa_truth", "adversarial accuracy, real half", NEAR_FLOOR, 0.12, above=_TOO_FAR),
    Target("privacy", "aa_syn", "adversarial accuracy, synthetic half", NEAR_FLOOR, 0.12, above=_TOO_ALIKE),
    Target("privacy", "privacy_loss", "privacy loss", AT_MOST, 0.03),
    Target("privacy", "membership_auc", "membership inference AUC", AT_MOST, 0.53),
    Target("privacy", "copied_run_mean", "copied run, mean", AT_MOST_FLOORS, 1.1),
    Target("privacy", "exact_copies", "exact copies", AT_MOST_FLOOR, 1.0),
)
"""What the report holds the metrics to."""


def number(value: float) -> str:
    """A number to three significant digits, as a reader wants it: ``0.0136``, ``1,930``, ``–``."""
    if not math.isfinite(value):
        return "–"
    if value == round(value) and abs(value) < 1e15:
        text = f"{value:,.0f}"
    else:
        # Rounded first, so that 0.9996 is 1.00 and not 1.000.
        rounded = float(f"{value:.3g}")
        size = abs(rounded)
        if size >= 1000:
            text = f"{value:,.0f}"
        elif size >= 1e-3:
            text = f"{rounded:.{max(2 - math.floor(math.log10(size)), 0)}f}"
        else:
            text = f"{value:.5f}" if size >= 1e-4 else f"{value:.1e}"
    return text.replace("-", "−")


@dataclass(frozen=True)
class Check:
    """A target applied to the metrics.

    Attributes:
        target: what was asked.
        value: of the synthetic people; NaN where absent.
        floor: of the training people; NaN where absent.
        met: ``None`` where it could not be judged.
        reason: why it could not be judged; empty otherwise.
    """

    target: Target
    value: float
    floor: float
    met: bool | None
    reason: str = ""

    @property
    def status(self) -> str:
        """``met``, ``not met`` or ``could not be judged``."""
        return {True: "met", False: "not met", None: "could not be judged"}[self.met]

    @property
    def asked(self) -> str:
        """The rule with its numbers, for example ``at most 1.15 × the floor of 0.0136``."""
        return self.target.rule.words.format(limit=f"{self.target.limit:g}", floor=number(self.floor))

    @property
    def value_text(self) -> str:
        """The value to three digits."""
        return number(self.value)

    @property
    def sentence(self) -> str:
        """``label value against a target of …``."""
        return f"{self.target.label} {self.value_text} against a target of {self.asked}{self.remark}"

    @property
    def remark(self) -> str:
        """In which sense a target was missed, in brackets; empty where that goes without saying."""
        high = self.met is False and self.value > self.floor
        return f" ({self.target.above})" if high and self.target.above else ""


@dataclass(frozen=True)
class Aspect:
    """All checks of fidelity, or all of privacy, and the line that sums them up.

    Attributes:
        name: ``Fidelity`` or ``Privacy``.
        checks: in the order of :data:`TARGETS`.
        line: the verdict in words.
        small: whether the held-out people are too few for a clear conscience.
    """

    name: str
    checks: tuple[Check, ...]
    line: str
    small: bool = False

    @property
    def tone(self) -> str:
        """``bad`` where a check was missed, ``good`` where all were met on enough people, ``open`` otherwise."""
        if any(c.met is False for c in self.checks):
            return "bad"
        return "open" if self.small or not all(c.met for c in self.checks) else "good"


@dataclass(frozen=True)
class Verdict:
    """What the report says first.

    Attributes:
        fidelity: checks of how alike synthetic and held-out people are.
        privacy: checks of how much the synthetic people give away about the training people.
        caution: what limits the verdict; empty where nothing does.
    """

    fidelity: Aspect
    privacy: Aspect
    caution: str

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdict as text, one line an aspect, and the caution where there is one."""
        lines = tuple(f"{aspect.name}: {aspect.line}" for aspect in (self.fidelity, self.privacy))
        return (*lines, self.caution) if self.caution else lines


def judge(frame: pd.DataFrame, *, holdout_haplotypes: int, targets: tuple[Target, ...] = TARGETS) -> Verdict:
    """Hold the metrics against the targets.

    Args:
        frame: tidy, with the columns ``metric``, ``value`` and ``floor``.
        holdout_haplotypes: haplotypes of the people the synthetic ones were judged on.
        targets: what to hold them to.
    """
    checks = [_check(frame, target, holdout_haplotypes) for target in targets]
    fidelity = tuple(c for c in checks if c.target.aspect == "fidelity")
    privacy = tuple(c for c in checks if c.target.aspect == "privacy")
    small = holdout_haplotypes < SMALL
    caution = ""
    if small:
        caution = (
            f"Only {holdout_haplotypes} haplotypes were held out, fewer than {SMALL}. "
            "These checks can reveal a gross failure; passing them proves neither fidelity nor privacy."
        )
    return Verdict(
        fidelity=Aspect("Fidelity", fidelity, _fidelity_line(fidelity), small),
        privacy=Aspect("Privacy", privacy, _privacy_line(privacy, small=small), small),
        caution=caution,
    )


def _check(frame: pd.DataFrame, target: Target, holdout_haplotypes: int) -> Check:
    found = frame[frame["metric"] == target.metric]
    if found.empty:
        return Check(target, math.nan, math.nan, None, "not measured")
    value, floor = float(found["value"].iloc[0]), float(found["floor"].iloc[0])
    if target.reference is not None:
        other = frame.loc[frame["metric"] == target.reference, "value"]
        floor = float(other.iloc[0]) if len(other) else math.nan
    if not math.isfinite(value):
        return Check(target, value, floor, None, "no finite value")
    if target.rule.needs_floor and not math.isfinite(floor):
        return Check(target, value, floor, None, "no finite floor")
    if holdout_haplotypes < TOO_FEW:
        return Check(target, value, floor, None, f"{holdout_haplotypes} held-out haplotypes are too few")
    return Check(target, value, floor, target.rule.holds(value, floor, target.limit))


def _count(checks: tuple[Check, ...]) -> tuple[int, int, list[Check]]:
    judged = [c for c in checks if c.met is not None]
    return sum(bool(c.met) for c in judged), len(judged), [c for c in judged if not c.met]


def _checks(n: int) -> str:
    return f"{n} check" if n == 1 else f"{n} checks"


def _unjudged(checks: tuple[Check, ...]) -> str:
    n = sum(c.met is None for c in checks)
    return f" {_checks(n).capitalize()} could not be judged." if n else ""


def _fidelity_line(checks: tuple[Check, ...]) -> str:
    met, judged, missed = _count(checks)
    if not judged:
        return "No check could be judged."
    line = f"{met} of {_checks(judged)} met"
    if missed:
        line += "; not met: " + "; ".join(c.sentence for c in missed)
    return line + "." + _unjudged(checks)


def _privacy_line(checks: tuple[Check, ...], *, small: bool) -> str:
    met, judged, missed = _count(checks)
    if not judged:
        return "No check could be judged."
    if missed:
        line = f"{len(missed)} of {_checks(judged)} not met: " + "; ".join(c.sentence for c in missed) + "."
    elif small:
        line = f"No sign of copying in {met} of {_checks(judged)}, on people too few to exclude it."
    else:
        line = f"No sign of copying in {met} of {_checks(judged)}."
    return line + _unjudged(checks)
