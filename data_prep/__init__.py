"""Files in, one validated :class:`VariantTable` out, and back. No torch in here."""

from data_prep.errors import GenodiffError, InputError, OutputError
from data_prep.variants import MISSING, VariantTable

__all__ = ["MISSING", "GenodiffError", "InputError", "OutputError", "VariantTable"]
