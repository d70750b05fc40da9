"""``python -m embedcore``: the command line."""

from embedcore.cli.main import run

if __name__ == "__main__":
    run()
