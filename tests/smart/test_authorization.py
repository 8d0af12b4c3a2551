"""From an app's question to its tokens: the pages, PKCE, codes, refresh tokens, and every way of not getting one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform import clock
from tests.clinic import PASSWORD, Caller, Clinic, Form, Signer, second_factor
from tests.records.conftest import Fhir
from tests.smart.conftest import AUD, BACK, App, sent_back

RECORD = "launch/patient patient/*.rs"


def refused(answer: TestResponse) -> tuple[int, str]:
    """Status and OAuth's word."""
    return answer.status_code, answer.get_json()["error"]


class TestPages:
    """What a user sees."""

    def test_lead_from_question_to_token(self, clinic: Clinic, smart_app: App) -> None:
        """A standalone launch of a patient's own app."""
        patient, own = clinic.patient_with_account()
        first = smart_app.begin()
        assert first.status_code == 200
        assert first.content_type == "text/html; charset=utf-8"
        assert "Growth charts" in first.text
        assert "script" not in first.text
        page = smart_app.sign_in(own)
        assert "Read and search everything of the patient you choose" in page.text
        back = sent_back(smart_app.decide(page, patient=patient["id"]))
        assert back["state"] == "abc def"
        answer = smart_app.redeem(back["code"])
        assert answer.headers["Cache-Control"] == "no-store"
        given = answer.get_json()
        assert given.pop("access_token")
        assert given == {"token_type": "Bearer", "expires_in": 600, "scope": RECORD, "patient": patient["id"]}

    def test_let_forms_lead_to_the_app_and_nowhere_else(self, smart_app: App) -> None:
        """Nothing is loaded, nobody frames the page, no cookie is set."""
        answer = smart_app.begin()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "form-action 'self' https://app.example.org;" in policy
        assert "frame-ancestors 'none'" in policy
        assert "Set-Cookie" not in answer.headers

    def test_show_what_an_app_is_called_as_text(self, clinic: Clinic) -> None:
        """A name is no markup."""
        app = App(clinic, name="<script>alert(1)</script>")
        assert "<script>" not in app.begin().text

    def test_send_back_who_says_no(self, clinic: Clinic, smart_app: App) -> None:
        """With OAuth's word for it."""
        _, own = clinic.patient_with_account()
        back = sent_back(smart_app.decide(smart_app.sign_in(own), "deny"))
        assert (back["error"], back["state"]) == ("access_denied", "abc def")

    def test_ask_for_a_patient_who_is_missing(self, clinic: Clinic, smart_app: App) -> None:
        """The page comes again, and says so."""
        _, own = clinic.patient_with_account()
        page = smart_app.decide(smart_app.sign_in(own))
        assert page.status_code == 200
        assert "Choose a patient." in page.text

    def test_offer_the_patients_one_sees(self, clinic: Clinic, smart_app: App) -> None:
        """To staff those whose record they open; a search finds no others."""
        nurse, theirs, other = clinic.user(Role.NURSE), clinic.patient(), clinic.patient()
        clinic.relate(theirs, nurse)
        page = smart_app.sign_in(nurse)
        assert theirs["id"] in page.text
        assert other["id"] not in page.text
        found = smart_app.decide(page, "search", q=other["family_name"])
        assert found.status_code == 200
        assert other["id"] not in found.text
        assert smart_app.decide(page, patient=other["id"]).status_code == 404

    def test_refuse_what_is_no_sign_in(self, clinic: Clinic, other_clinic: Clinic, smart_app: App) -> None:
        """As pages: a wrong password, and somebody of another clinic."""
        stranger = other_clinic.user(Role.NURSE)
        other_clinic.set_password(stranger, PASSWORD)
        form = {"request": urlencode(smart_app.asked()), "email": other_clinic.email_of(stranger)}
        answer = smart_app.guest.post("/oauth/authorize", Form(form | {"password": PASSWORD}))
        assert (answer.status_code, answer.content_type) == (403, "text/html; charset=utf-8")
        assert "Another clinic" in answer.text
        answer = smart_app.guest.post("/oauth/authorize", Form(form | {"password": "wrong"}))
        assert answer.status_code == 401
        assert clinic.organization_id != other_clinic.organization_id

    def test_take_a_second_factor(self, clinic: Clinic, smart_app: App) -> None:
        """The code goes on the same page; without it there is none."""
        nurse = clinic.user(Role.NURSE)
        clinic.set_password(nurse, PASSWORD)
        _, recovery_codes = second_factor(nurse)
        form = {"request": urlencode(smart_app.asked("user/Patient.r")), "email": clinic.email_of(nurse)}
        form |= {"password": PASSWORD}
        assert smart_app.guest.post("/oauth/authorize", Form(form)).status_code == 401
        page = smart_app.guest.post("/oauth/authorize", Form(form | {"otp": recovery_codes[0]}))
        assert "code" in sent_back(smart_app.decide(page))

    def test_are_over_after_ten_minutes(self, clinic: Clinic, smart_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        """And a ticket that is none is none."""
        patient, own = clinic.patient_with_account()
        page = smart_app.sign_in(own)
        later = clock.now() + timedelta(minutes=11)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert smart_app.decide(page, patient=patient["id"]).status_code == 400
        form = Form({"ticket": "AAAA", "decision": "allow"})
        assert smart_app.guest.post("/oauth/authorize/decision", form).status_code == 400


class TestQuestion:
    """What an app asks, and how."""

    @pytest.mark.parametrize(
        "wrong",
        [{"client_id": "01a2159f-bbc7-7770-8602-59babd827de6"}, {"client_id": "x"}, {"client_id": None}]
        + [{"redirect_uri": uri} for uri in (None, "https://evil.example.org/", BACK + "/", BACK + "?a=b")],
    )
    def test_sends_nobody_to_an_address_that_is_not_the_apps(self, smart_app: App, wrong: dict[str, str]) -> None:
        """The user stays here, and is told so."""
        answer = smart_app.begin(**wrong)
        assert answer.status_code == 400
        assert "Location" not in answer.headers
        assert answer.content_type == "text/html; charset=utf-8"

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"scope": "system/*.rs"}, "invalid_scope"),
            ({"scope": None}, "invalid_scope"),
            ({"code_challenge": None}, "invalid_request"),
            ({"code_challenge": "short"}, "invalid_request"),
            ({"code_challenge_method": None}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"aud": None}, "invalid_request"),
            ({"aud": "https://elsewhere.example.org/fhir"}, "invalid_request"),
            ({"launch": "made up"}, "invalid_request"),
        ],
    )
    def test_that_is_wrong_is_told_to_the_app(self, smart_app: App, wrong: dict[str, str | None], error: str) -> None:
        """By sending the user back, with the state."""
        back = sent_back(smart_app.begin(**({"scope": RECORD} | wrong)))
        assert (back["error"], back["state"]) == (error, "abc def")

    def test_twice_is_none(self, smart_app: App) -> None:
        """A parameter is there once."""
        answer = smart_app.guest.get("/oauth/authorize", **(smart_app.asked() | {"scope": ["a", "b"]}))
        assert answer.status_code == 400

    def test_gets_no_more_than_the_app_may(self, clinic: Clinic) -> None:
        """What is asked for and allowed: the answer says which."""
        app = App(clinic, scopes=["patient/Observation.rs", "launch/patient"])
        patient, own = clinic.patient_with_account()
        given = app.tokens(own, "openid launch/patient patient/*.cruds offline_access", patient["id"])
        assert given["scope"] == "launch/patient patient/Observation.rs"
        assert "refresh_token" not in given


class TestCode:
    """What stands for the consent, for a minute."""

    def test_works_once(self, clinic: Clinic, smart_app: App) -> None:
        """Its second use ends what came of the first (RFC 6749 section 4.1.2)."""
        patient, own = clinic.patient_with_account()
        code = smart_app.code(own, RECORD, patient["id"])
        token = smart_app.redeem(code).get_json()["access_token"]
        fhir = Fhir(Caller(clinic.app, token))
        assert fhir.get(f"Patient/{patient['id']}").status_code == 200
        assert refused(smart_app.redeem(code)) == (400, "invalid_grant")
        assert fhir.get(f"Patient/{patient['id']}").status_code == 401

    def test_works_once_for_many_at_once(self, clinic: Clinic, smart_app: App) -> None:
        """One gets tokens, at most; the others end them."""
        patient, own = clinic.patient_with_account()
        code = smart_app.code(own, RECORD, patient["id"])
        with ThreadPoolExecutor(6) as pool:
            statuses = [one.status_code for one in pool.map(lambda _: smart_app.redeem(code), range(6))]
        assert statuses.count(200) == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"code_verifier": "x" * 43},
            {"code_verifier": ""},
            {"redirect_uri": "https://app.example.org/other"},
            {"redirect_uri": ""},
            {"code": "AAAA"},
            {"code": ""},
        ],
    )
    def test_is_nothing_without_what_goes_with_it(self, clinic: Clinic, smart_app: App, wrong: dict[str, str]) -> None:
        """Verifier and address."""
        patient, own = clinic.patient_with_account()
        answer = smart_app.redeem(smart_app.code(own, RECORD, patient["id"]), **wrong)
        assert answer.status_code == 400
        assert answer.get_json()["error"] in ("invalid_grant", "invalid_request")

    def test_is_the_apps_own(self, clinic: Clinic, other_clinic: Clinic, smart_app: App) -> None:
        """No other app's, here or in another clinic."""
        patient, own = clinic.patient_with_account()
        code = smart_app.code(own, RECORD, patient["id"])
        for other in (App(clinic), App(other_clinic)):
            assert refused(smart_app.redeem(code, client_id=other.id)) == (400, "invalid_grant")
        assert smart_app.redeem(code).status_code == 200

    def test_is_over_after_a_minute(self, clinic: Clinic, smart_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody needs it longer."""
        patient, own = clinic.patient_with_account()
        code = smart_app.code(own, RECORD, patient["id"])
        later = clock.now() + timedelta(seconds=61)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert refused(smart_app.redeem(code)) == (400, "invalid_grant")

    def test_needs_the_secret_of_an_app_that_has_one(self, clinic: Clinic) -> None:
        """And the secret of a public app is none."""
        app = App(clinic, confidential=True)
        patient, own = clinic.patient_with_account()
        code = app.code(own, RECORD, patient["id"])
        assert refused(app.redeem(code)) == (401, "invalid_client")
        assert refused(app.redeem(code, client_secret="wrong")) == (401, "invalid_client")
        assert app.redeem(code, client_secret=app.made["client_secret"]).status_code == 200
        public = App(clinic)
        code = public.code(own, RECORD, patient["id"])
        assert refused(public.redeem(code, client_secret="any")) == (401, "invalid_client")

    @pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
    def test_goes_with_a_signature_of_an_app_that_has_keys(self, clinic: Clinic, algorithm: str) -> None:
        """SMART's asymmetric clients; an assertion counts once."""
        signer = Signer(algorithm)
        app = App(clinic, jwks=signer.jwks)
        patient, own = clinic.patient_with_account()
        proof = {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": signer.assertion(app.made),
        }
        assert app.redeem(app.code(own, RECORD, patient["id"]), **proof).status_code == 200
        again = app.redeem(app.code(own, RECORD, patient["id"]), **proof)
        assert refused(again) == (401, "invalid_client")


class TestRefresh:
    """An app that carries on."""

    OFFLINE = "launch/patient offline_access patient/*.rs"

    def test_gives_the_next_tokens(self, clinic: Clinic, smart_app: App) -> None:
        """With the same scopes and patient; a token works once, and its reuse ends all."""
        patient, own = clinic.patient_with_account()
        first = smart_app.tokens(own, self.OFFLINE, patient["id"])
        second = smart_app.refresh(first["refresh_token"]).get_json()
        assert (second["scope"], second["patient"]) == (first["scope"], patient["id"])
        fhir = Fhir(Caller(clinic.app, second["access_token"]))
        assert fhir.get(f"Patient/{patient['id']}").status_code == 200
        assert refused(smart_app.refresh(first["refresh_token"])) == (400, "invalid_grant")
        assert refused(smart_app.refresh(second["refresh_token"])) == (400, "invalid_grant")
        assert fhir.get(f"Patient/{patient['id']}").status_code == 401

    def test_is_the_apps_alone(self, clinic: Clinic, smart_app: App) -> None:
        """Not another app's, and not of the sign-in of people; nor is theirs the app's."""
        patient, own = clinic.patient_with_account()
        token = smart_app.tokens(own, self.OFFLINE, patient["id"])["refresh_token"]
        assert refused(App(clinic).refresh(token)) == (400, "invalid_grant")
        assert smart_app.guest.post("/auth/refresh", {"refresh_token": token}).status_code == 401
        signed_in = smart_app.guest.post("/auth/login", {"email": clinic.email_of(own), "password": PASSWORD})
        assert refused(smart_app.refresh(signed_in.get_json()["refresh_token"])) == (400, "invalid_grant")
        assert smart_app.refresh(token).status_code == 200

    def test_outlives_what_bounds_the_sign_in_of_people(
        self, clinic: Clinic, smart_app: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For 90 days offline."""
        patient, own = clinic.patient_with_account()
        token = smart_app.tokens(own, self.OFFLINE, patient["id"])["refresh_token"]
        moment = clock.now()
        monkeypatch.setattr(clock, "now", lambda: moment + timedelta(days=89))
        token = smart_app.refresh(token).get_json()["refresh_token"]
        monkeypatch.setattr(clock, "now", lambda: moment + timedelta(days=91))
        assert refused(smart_app.refresh(token)) == (400, "invalid_grant")

    @pytest.mark.parametrize("end", ["app closed", "app changed", "user deactivated", "taken back", "revoked"])
    def test_ends_with_what_it_stands_on(self, clinic: Clinic, smart_app: App, end: str) -> None:
        """App, user, and the user's own word; from the next call on."""
        patient, own = clinic.patient_with_account()
        given = smart_app.tokens(own, self.OFFLINE, patient["id"])
        fhir = Fhir(Caller(clinic.app, given["access_token"]))
        assert fhir.get(f"Patient/{patient['id']}").status_code == 200
        if end == "app closed":
            assert clinic.admin.post(f"/smart-apps/{smart_app.id}/deactivate").status_code == 200
        elif end == "app changed":
            assert clinic.admin.patch(f"/smart-apps/{smart_app.id}", {"scopes": ["launch"]}).status_code == 200
        elif end == "user deactivated":
            assert clinic.admin.post(f"/users/{own.id}/deactivate").status_code == 200
        elif end == "taken back":
            [session] = [one for one in own.get("/me/sessions").get_json()["items"] if one["app_id"]]
            assert session["app_id"] == smart_app.id
            assert own.delete(f"/me/sessions/{session['id']}").status_code == 204
        else:
            form = Form({"token": given["refresh_token"], "client_id": smart_app.id})
            assert smart_app.guest.post("/oauth/revoke", form).status_code == 200
        assert fhir.get(f"Patient/{patient['id']}").status_code == 401
        answer = smart_app.refresh(given["refresh_token"])
        assert refused(answer) in [(400, "invalid_grant"), (401, "invalid_client")]


class TestLaunch:
    """An app that is opened from the clinic's own program."""

    def test_brings_the_patient_along(self, clinic: Clinic) -> None:
        """The EHR launch: nobody is to be chosen, and nobody else can be."""
        app = App(clinic, launch_uri="https://app.example.org/launch?x=1")
        nurse, patient, other = clinic.user(Role.NURSE), clinic.patient(), clinic.patient()
        for one in (patient, other):
            clinic.relate(one, nurse)
        opened = nurse.post(f"/smart-apps/{app.id}/launches", {"patient_id": patient["id"]}).get_json()
        assert opened["url"] == "https://app.example.org/launch?" + urlencode(
            {"x": 1, "iss": AUD, "launch": opened["launch"]}
        )
        page = app.sign_in(nurse, "launch patient/*.rs", launch=opened["launch"])
        assert other["id"] not in page.text
        assert app.decide(page, patient=other["id"]).status_code == 400
        code = sent_back(app.decide(page, patient=patient["id"]))["code"]
        assert app.redeem(code).get_json()["patient"] == patient["id"]

    def test_is_for_who_opened_it(self, clinic: Clinic) -> None:
        """Nobody else answers it; and of a patient whom one does not see there is none."""
        app = App(clinic, launch_uri="https://app.example.org/launch")
        nurse, colleague, patient = clinic.user(Role.NURSE), clinic.user(Role.NURSE), clinic.patient()
        path = f"/smart-apps/{app.id}/launches"
        assert nurse.post(path, {"patient_id": patient["id"]}).status_code == 404
        clinic.relate(patient, nurse)
        clinic.relate(patient, colleague)
        launch = nurse.post(path, {"patient_id": patient["id"]}).get_json()["launch"]
        page = app.sign_in(colleague, "launch patient/*.rs", launch=launch)
        assert app.decide(page, patient=patient["id"]).status_code == 400
        assert nurse.post(f"/smart-apps/{App(clinic).id}/launches", {}).get_json()["code"] == "no_launch_uri"

    def test_is_for_one_app(self, clinic: Clinic) -> None:
        """Another app's is none."""
        one, other = (App(clinic, launch_uri="https://app.example.org/launch") for _ in range(2))
        launch = clinic.admin.post(f"/smart-apps/{one.id}/launches", {}).get_json()["launch"]
        assert sent_back(other.begin("launch", launch=launch))["error"] == "invalid_request"


class TestInspection:
    """What a token is good for."""

    def test_is_told_to_the_app_and_to_programs_of_the_clinic(self, clinic: Clinic, other_clinic: Clinic) -> None:
        """To nobody else (RFC 7662)."""
        app, patient_and_own = App(clinic, confidential=True), clinic.patient_with_account()
        patient, own = patient_and_own
        code = app.code(own, RECORD, patient["id"])
        token = app.redeem(code, client_secret=app.made["client_secret"]).get_json()["access_token"]

        def told(who: dict[str, str], about: str = token) -> dict[str, str]:
            shown = {"client_id": who["client_id"], "client_secret": who["client_secret"]}
            answer = app.guest.post("/oauth/introspect", Form({"token": about} | shown))
            assert answer.status_code == 200, answer.text
            found: dict[str, str] = answer.get_json()
            return found

        mine = told(app.made)
        assert mine.pop("exp")
        assert mine == {
            "active": True,
            "scope": RECORD,
            "client_id": app.id,
            "sub": own.id,
            "iss": "http://localhost",
            "patient": patient["id"],
        }
        assert told(clinic.client("slot:read"))["active"] is True
        other_app = App(clinic, confidential=True)
        for who in (other_app.made, other_clinic.client("slot:read")):
            assert told(who)["active"] is False
        assert told(app.made, "made up")["active"] is False
        assert told(app.made, str(own.token))["active"] is False
        answer = app.guest.post("/oauth/introspect", Form({"token": token, "client_id": app.id}))
        assert refused(answer) == (401, "invalid_client")


def test_configuration_says_where_to_begin(clinic: Clinic) -> None:
    """And so do the metadata of OAuth, and the capability statement."""
    guest = Caller(clinic.app)
    told = guest.get("/fhir/R4/.well-known/smart-configuration").get_json()
    assert told["authorization_endpoint"] == "http://localhost/oauth/authorize"
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert {"launch-ehr", "launch-standalone", "permission-v2", "client-confidential-asymmetric"} <= {
        *told["capabilities"]
    }
    metadata = guest.get("/.well-known/oauth-authorization-server").get_json()
    for name in ("authorization_endpoint", "token_endpoint", "introspection_endpoint", "revocation_endpoint"):
        assert metadata[name] == told[name]
    security = guest.get("/fhir/R4/metadata").get_json()["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    uris = {one["url"]: one["valueUri"] for one in security["extension"][0]["extension"]}
    assert uris["token"] == told["token_endpoint"]
