"""The door for servers and Flask's command line: ``FLASK_APP=run:create_app``."""

from medical.app import create_app

__all__ = ["create_app"]
