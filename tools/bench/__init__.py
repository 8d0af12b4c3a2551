"""How quick the program is, measured through the real server: `make bench`."""
