#!/usr/bin/env bash
# The curl lines of the vendor's page "Session service" (9.18 to 9.0.21) behind a gateway that admits clients only: as
# printed there, but for the endpoint, a client's name and key as user and password, and without the line that strips the
# blanks which the next line looks for.
#
#     user=nightly passwd=KEY docs/clients/vendor-page-key.sh https://gateway.example.com/automation-api
# shellcheck disable=SC2086,SC2116,SC2154
endpoint=${1:?the endpoint of the API}

# Login
login=$(curl -s -H "Content-Type: application/json" -X POST -d "{\"username\":\"$user\",\"password\":\"$passwd\"}"   "$endpoint/session/login" )
token=$(echo ${login##*token\" : \"} | cut -d '"' -f 1)

curl -s -o /dev/null -w '%{http_code}\n' -H "Authorization: Bearer $token" "$endpoint/config/servers"
curl -s -g -k -H "Authorization: Bearer $token" -X POST "$endpoint/session/logout"
# After its logout the token opens nothing.
curl -s -o /dev/null -w '%{http_code}\n' -H "Authorization: Bearer $token" "$endpoint/config/servers"
