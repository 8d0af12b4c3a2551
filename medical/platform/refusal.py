"""The errors that end a start or a command."""


class Refused(RuntimeError):
    """Something the program cannot go on with; the text tells whoever runs it what, where, and the mend.

    A ``RuntimeError`` because Flask-Migrate shows those without a traceback.
    """
