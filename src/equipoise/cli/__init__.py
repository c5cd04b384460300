"""The command line: `equipoise COMMAND ...`, one short file per group of commands."""

from __future__ import annotations


def main() -> None:
    """The program's entry point."""
    from equipoise.cli.app import main as run

    run()
