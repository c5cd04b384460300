"""`python -m equipoise.cli`, which does what `python -m equipoise` does."""

from equipoise.cli import main

if __name__ == "__main__":
    main()
