#!/usr/bin/env bash
# The curl lines of the vendor's page "Session service" (9.18 to 9.0.21) as printed there, but for the endpoint and a call
# in between. Blanks are stripped from the answer, and then looked for, so the token comes out as "{" whatever the server.
# A sidecar does not look at what is shown to it: the call is answered all the same.
#
#     docs/clients/vendor-page.sh http://127.0.0.1:8080/automation-api
# shellcheck disable=SC2086,SC2116,SC2046
user=anybody
passwd=none
endpoint=${1:?the endpoint of the API}

# Login
login=$(curl -H "Content-Type: application/json" -X POST -d "{\"username\":\"$user\",\"password\":\"$passwd\"}"   "$endpoint/session/login" )
echo $login
# trim spaces and new lines
login=$(echo ${login//[$'\t\r\n ']})
token=$(echo ${login##*token\" : \"} | cut -d '"' -f 1)
echo $token

curl -H "Authorization: Bearer $token" -w '\n%{http_code}\n' "$endpoint/config/servers"
curl -g -k -H "Authorization: Bearer $token" -X POST "$endpoint/session/logout"
