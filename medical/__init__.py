"""Medical Backend: accounts, availabilities, appointments and patients of a clinic."""

__version__ = "0.1.0"
