"""The run-time type checker of the tests: PEP 484's numeric tower, so that an int passes for a float."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
