"""``python -m imaging``."""

from imaging.cli import main

if __name__ == "__main__":
    main(prog_name="python -m imaging")
