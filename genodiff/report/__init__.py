"""From metrics to a page one can judge by: an honest verdict first, then figures, tables, data and provenance."""

from __future__ import annotations

from genodiff.report.page import write_metrics_csv, write_report
from genodiff.report.verdict import Verdict, judge

__all__ = ["Verdict", "judge", "write_metrics_csv", "write_report"]
