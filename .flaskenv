# Read by `flask` in this folder, so that `flask db upgrade` finds the application.
# Nothing secret belongs here: secrets go to .env or to the environment.
FLASK_APP=run:create_app
