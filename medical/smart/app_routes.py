"""Apps over HTTP: registered, changed, opened from the clinic's own program."""

from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, current_app

from medical.audit.events import Action
from medical.identity.errors import ClientClosed
from medical.platform.authz import current_actor
from medical.platform.http import endpoint, own_address
from medical.platform.paging import Page, PageQuery, page_of, read_cursor
from medical.smart import apps
from medical.smart.consent import Consent
from medical.smart.errors import NoLaunchAddress, NoSecret
from medical.smart.permissions import Permission
from medical.smart.schemas import (
    CreateSmartApp,
    LaunchApp,
    LaunchOut,
    NewSmartAppOut,
    SmartAppOut,
    UpdateSmartApp,
)

bp = Blueprint("smart-apps", __name__, url_prefix="/api/v1/smart-apps")

BASE = "/fhir/R4"
"""Of FHIR; what apps call the `iss` and the `aud`."""


@endpoint(
    bp.post(""),
    permission=Permission.SMART_APP_MANAGE,
    body=CreateSmartApp,
    returns=(201, NewSmartAppOut),
    audit=Action.SMART_APP_CREATED,
    idempotent=True,
    etag=True,
    step_up=True,
)
def create_app(body: CreateSmartApp) -> NewSmartAppOut:
    """Register an app; the secret of a confidential one is told this once."""
    app, secret = apps.create(current_actor(), **body.arguments())
    return NewSmartAppOut.of(app, client_secret=secret)


@endpoint(
    bp.get(""),
    permission=Permission.SMART_APP_READ,
    query=PageQuery,
    returns=(200, Page[SmartAppOut]),
    audit=Action.SMART_APP_LISTED,
)
def list_apps(query: PageQuery) -> Page[SmartAppOut]:
    """List apps, ordered by name, id."""
    rows = apps.list_apps(query.limit, read_cursor(query.cursor, tuple[str, UUID]))
    return page_of(rows, query.limit, SmartAppOut.of, lambda app: (app.name, app.id))


@endpoint(
    bp.get("/<uuid:app_id>"),
    permission=Permission.SMART_APP_READ,
    returns=(200, SmartAppOut),
    audit=Action.SMART_APP_READ,
    etag=True,
)
def get_app(app_id: UUID) -> SmartAppOut:
    """Read an app."""
    return SmartAppOut.of(apps.get_app(app_id))


@endpoint(
    bp.patch("/<uuid:app_id>"),
    permission=Permission.SMART_APP_MANAGE,
    body=UpdateSmartApp,
    returns=(200, SmartAppOut),
    errors=[ClientClosed],
    audit=Action.SMART_APP_UPDATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def update_app(app_id: UUID, body: UpdateSmartApp, expected_version: int | None) -> SmartAppOut:
    """Change an app; but for its name and launch address, what users let it do ends."""
    return SmartAppOut.of(apps.update(app_id, expected_version, body.given()))


@endpoint(
    bp.post("/<uuid:app_id>/rotate-secret"),
    permission=Permission.SMART_APP_MANAGE,
    returns=(200, NewSmartAppOut),
    errors=[ClientClosed, NoSecret],
    audit=Action.SMART_APP_SECRET_ROTATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def rotate_secret(app_id: UUID, expected_version: int | None) -> NewSmartAppOut:
    """Give an app another secret, told this once; the old one, and what users let the app do, end."""
    app, secret = apps.rotate_secret(app_id, expected_version)
    return NewSmartAppOut.of(app, client_secret=secret)


@endpoint(
    bp.post("/<uuid:app_id>/deactivate"),
    permission=Permission.SMART_APP_MANAGE,
    returns=(200, SmartAppOut),
    audit=Action.SMART_APP_DEACTIVATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def deactivate_app(app_id: UUID, expected_version: int | None) -> SmartAppOut:
    """Close an app for good: its tokens are refused from now on."""
    return SmartAppOut.of(apps.deactivate(app_id, expected_version))


@endpoint(
    bp.post("/<uuid:app_id>/launches"),
    permission=Permission.SMART_APP_LAUNCH,
    body=LaunchApp,
    returns=(200, LaunchOut),
    errors=[NoLaunchAddress],
    audit=Action.SMART_APP_LAUNCHED,
)
def launch_app(app_id: UUID, body: LaunchApp) -> LaunchOut:
    """Open an app from the clinic's own program, for a patient: the EHR launch of SMART."""
    consent: Consent = current_app.extensions["consent"]
    app, launch = consent.launch(current_actor(), app_id, body.patient_id)
    joint = "&" if "?" in (app.launch_uri or "") else "?"
    return LaunchOut(
        launch=launch, url=f"{app.launch_uri}{joint}{urlencode({'iss': own_address() + BASE, 'launch': launch})}"
    )
