"""The experiments of the GOU paper (Taheri 2026, arXiv:2606.03360), run again: tables, figures and claims."""
