"""``python -m adapterstilts`` is ``adapterstilts``."""

from adapterstilts.cli import main

if __name__ == "__main__":
    main()
