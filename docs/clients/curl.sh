#!/usr/bin/env bash
# A shell script as there are many: it logs in, cuts the token out of the answer, calls, follows the URLs of the answers,
# and logs out. Behind ctmgate only the endpoint is another:
#
#     docs/clients/curl.sh http://127.0.0.1:8080/automation-api
#
# Where the gateway has clients, it takes a client's name and key in place of Control-M's user and password:
#
#     user=nightly passwd=ctmgate_… docs/clients/curl.sh https://gateway.example.com/automation-api
set -euo pipefail

endpoint=${1:?the endpoint of the API}
user=${user:-anybody} # not looked at behind a sidecar
passwd=${passwd:-none}

call() { curl -sS --fail-with-body -m 30 "$@"; }

# member NAME JSON: the text of a member, as scripts without a JSON parser cut it out.
member() { expr "$2" : ".*\"$1\" : \"\\([^\"]*\\)\""; }

log_in() { call -H "Content-Type: application/json" -X POST -d "{\"username\":\"$user\",\"password\":\"$passwd\"}" "$endpoint/session/login"; }

# As in the vendor's quick start …
login=$(log_in)
# shellcheck disable=SC2086 # unquoted there, too
token=$(echo ${login##*token\" : \"} | cut -d '"' -f 1)
# … and as in the vendor's community samples.
[ "$token" = "$(member token "$login")" ]
echo "logged in: $(member username "$login"), API $(member version "$login")"

call -H "Authorization: Bearer $token" "$endpoint/config/servers" | grep -q ctmprod
call -H "x-api-key: $token" "$endpoint/config/servers" | grep -q ctmprod
if [ "$user" = anybody ]; then
	call "$endpoint/config/servers" | grep -q ctmprod
	echo "servers: with the token in either header, and without one"
else
	call -H "x-api-key: $passwd" "$endpoint/config/servers" | grep -q ctmprod
	echo "servers: with the token in either header, and with the key"
fi

run=$(call -H "Authorization: Bearer $token" -H "Content-Type: application/json" -X POST -d '{"ctm":"ctmtest","folder":"SmokeTest"}' "$endpoint/run/order")
status=$(call -H "Authorization: Bearer $token" "$(member statusURI "$run")")
call -H "Authorization: Bearer $token" "$(member logURI "$status")" | grep -q "ORDERED JOB:SayHello"
echo "ordered: statusURI and logURI lead back here"

next="$endpoint/run/jobs/status?limit=4&ctm=ctmprod&jobname=*"
pages=0
while [ -n "$next" ]; do
	page=$(call -H "Authorization: Bearer $token" "$next")
	next=$(member nextURI "$page" || true)
	pages=$((pages + 1))
done
echo "pages: $pages"

echo '{"Shell": {"Type": "SimpleFolder", "Job": {"Type": "Job:Command", "Command": "true", "RunAs": "ctm"}}}' |
	call -H "Authorization: Bearer $token" -X POST -F "definitionsFile=@-;filename=jobs.json" "$endpoint/build" | grep -q '"successfulJobsCount" : 1'
echo "built"

call -H "Authorization: Bearer $token" -X POST "$endpoint/session/logout" | grep -q "logged out"
token=$(member token "$(log_in)") # one that has ended is not taken again
call -X POST -d "token=$token" "$endpoint/session/logout" | grep -q "logged out"
token=$(member token "$(log_in)")
call -X POST "$endpoint/session/logout?token=$token" | grep -q "logged out"
echo "logged out, in three ways"
