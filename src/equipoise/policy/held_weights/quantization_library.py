"""bitsandbytes, an optional library: 4- and 8-bit weights (QLoRA) and optimizers with 8-bit moments."""

from __future__ import annotations

from typing import Any

from equipoise.models.errors import ModelError, first_line


def bitsandbytes(what: str) -> Any:
    """The library. Raises ModelError, in one sentence, where it is not installed or does not load.

    what    the setting that needs it.
    """
    try:
        import bitsandbytes as library
    except Exception as error:  # noqa: BLE001 - a library of native code may raise anything when it loads
        raise ModelError(
            f"{what} needs bitsandbytes ({first_line(error)}): pip install 'equipoise[quant]'"
        ) from None
    return library
