"""``python -m medical …`` is ``medical …`` wherever Python runs."""

from medical.cli import main

if __name__ == "__main__":
    main()
