"""Libraries that change the environment when they are imported: done here, so that no test is blamed for being the first."""

from __future__ import annotations

import sklearn  # noqa: F401  # sets KMP_DUPLICATE_LIB_OK and KMP_INIT_AT_FORK
