"""The application: its parts put together in named steps."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Flask
from sqlalchemy.event import listen
from sqlalchemy.orm import configure_mappers

from medical import access
from medical.audit import backlog
from medical.audit import routes as trail
from medical.audit import service as audit
from medical.config import Settings
from medical.fhir import appointment_routes as fhir_appointments
from medical.fhir import booking_operations as fhir_booking
from medical.fhir import bundles as fhir_bundles
from medical.fhir import export_routes as fhir_export
from medical.fhir import history_routes as fhir_history
from medical.fhir import operations as fhir_operations
from medical.fhir import routes as fhir
from medical.fhir import search_routes as fhir_search
from medical.fhir import slot_routes as fhir_slots
from medical.fhir.outcome import refusal_document
from medical.identity import client_routes as clients
from medical.identity import directory, keys
from medical.identity import organization_routes as organization
from medical.identity import routes as identity
from medical.identity import service as accounts
from medical.identity.otp import SecondFactors
from medical.identity.throttle import Throttle
from medical.people import care_routes as care
from medical.people import proxy_routes as proxies
from medical.people import room_routes as rooms
from medical.people import routes as people
from medical.people import service as people_verbs
from medical.platform import db, driver, health, http, logging, openapi, web
from medical.platform.revision import MIGRATIONS
from medical.records import merge_routes as merges
from medical.records import routes as clinical
from medical.records import service as records
from medical.scheduling import feed_routes as feeds
from medical.scheduling import hold_routes as holds
from medical.scheduling import hours_routes as hours
from medical.scheduling import life_routes as decisions
from medical.scheduling import routes as scheduling
from medical.scheduling import series_routes as series
from medical.scheduling import waitlist_routes as waitlist
from medical.smart import app_routes as smart_apps
from medical.smart import authorize_routes as authorize
from medical.smart import cors, pages
from medical.smart import token_routes as oauth
from medical.smart.consent import Consent

NO_DATABASE = "postgresql://medical_app@/medical"
"""Where commands that do not serve would look without DATABASE_URL; `medical run` always sets it."""

BLUEPRINTS = (
    identity.auth,
    identity.own,
    identity.users,
    organization.bp,
    clients.service_clients,
    smart_apps.bp,
    authorize.bp,
    oauth.oauth,
    identity.well_known,
    people.me,
    people.patients,
    people.clinicians,
    people.locations,
    rooms.rooms,
    rooms.devices,
    care.relationships,
    care.glass,
    care.explanations,
    proxies.of_patient,
    proxies.own,
    scheduling.types,
    scheduling.availabilities,
    hours.openings,
    hours.time_offs,
    hours.holidays,
    hours.explained,
    scheduling.slots,
    scheduling.appointments,
    decisions.decisions,
    holds.bp,
    waitlist.bp,
    series.bp,
    feeds.bp,
    feeds.calendars,
    clinical.bp,
    merges.bp,
    fhir.bp,
    fhir_search.bp,
    fhir_appointments.bp,
    fhir_slots.bp,
    fhir_booking.bp,
    fhir_history.bp,
    fhir_operations.bp,
    fhir_bundles.bp,
    fhir_export.bp,
    trail.trail,
    trail.accesses,
    health.bp,
    openapi.bp,
)


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """A complete application from the environment; ``overrides`` replace settings by field name.

    Raises ``ConfigurationError`` when serving with these settings would be unsafe. Commands that do
    not serve (``flask db …``) need no secret, so for them nothing is refused.
    """
    settings = Settings.load(overrides)
    serving = os.environ.get("FLASK_RUN_FROM_CLI") != "true"
    if serving:
        settings.ensure_safe()
    flask_app = Flask("medical", static_folder=None)
    flask_app.extensions["settings"] = settings
    logging.configure(settings)
    _connect(flask_app, settings)
    if not serving:
        _offer_migrations(flask_app)
    _secure(flask_app, settings)
    web.init_app(flask_app, settings)
    cors.init_app(flask_app)
    web.speak(flask_app, "/fhir/", refusal_document)
    web.speak(flask_app, "/oauth/authorize", pages.refusal_page)
    for blueprint in BLUEPRINTS:
        flask_app.register_blueprint(blueprint)
    http.ensure_declared(flask_app)
    return flask_app


def _connect(flask_app: Flask, settings: Settings) -> None:
    """The database, and all mappers made ready, so that a broken relation shows now."""
    flask_app.config["SQLALCHEMY_DATABASE_URI"] = db.sqlalchemy_url(settings.database_url or NO_DATABASE)
    flask_app.config["SQLALCHEMY_ENGINE_OPTIONS"] = db.engine_options(settings)
    db.db.init_app(flask_app)
    with flask_app.app_context():
        listen(db.db.engine, "do_connect", driver.connect)
    configure_mappers()


def _offer_migrations(flask_app: Flask) -> None:
    """The commands ``flask db …``; a process that serves does without Alembic and its memory."""
    from flask_migrate import Migrate

    Migrate(flask_app, db.db, directory=str(MIGRATIONS))


def _secure(flask_app: Flask, settings: Settings) -> None:
    """Who calls, what they may do, and the trail they leave."""
    access.install()
    if records.follow not in people_verbs.CHANGED:
        people_verbs.CHANGED.append(records.follow)
        directory.CHANGED.append(records.follow_directory)
    flask_app.config["SECRET_KEY"] = settings.secret_key
    flask_app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    ring = flask_app.extensions["key_ring"] = keys.KeyRing(settings.secret_key)
    sign_in = flask_app.extensions["access"] = accounts.Access(
        ring, Throttle(settings.secret_key), SecondFactors(settings.secret_key), settings.otp_roles
    )
    flask_app.extensions["consent"] = Consent(settings.secret_key)
    hooks = http.Hooks(
        authenticate=partial(accounts.authenticate, sign_in),
        hold=accounts.hold,
        guest_scope=accounts.registration_scope,
        record=audit.record,
        public=access.PUBLIC,
    )
    http.init_app(flask_app, hooks)
    health.init_app(flask_app, backlog.measured)
