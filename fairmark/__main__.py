"""`python -m fairmark`, where the command is not installed."""

from fairmark.command import main

if __name__ == "__main__":
    main()
