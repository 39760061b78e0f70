"""Import libraries that change the environment before any test, so that the check for changed variables passes."""

from __future__ import annotations

import sklearn  # noqa: F401  # sets KMP_DUPLICATE_LIB_OK and KMP_INIT_AT_FORK
