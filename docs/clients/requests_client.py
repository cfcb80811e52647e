#!/usr/bin/env python3
"""A Python script with requests: it logs in, calls, follows the URLs of the answers, and logs out.

Behind ctmgate only the endpoint is another, and verify=False is no longer needed:

    docs/clients/requests_client.py http://127.0.0.1:8080/automation-api

Where the gateway has clients, the variables user and passwd have a client's name and key.
"""

import os
import sys

import requests

endpoint = sys.argv[1]
user, password = os.environ.get("user", "anybody"), os.environ.get("passwd", "none")  # not looked at behind a sidecar


def checked(response, status=200):
    assert response.status_code == status, (response.status_code, response.text)
    return response


login = checked(requests.post(endpoint + "/session/login", json={"username": user, "password": password}, timeout=30)).json()
assert login["username"] == user, login
print("logged in: API", login["version"])

session = requests.Session()
session.headers["Authorization"] = "Bearer " + login["token"]

servers = [server["name"] for server in checked(session.get(endpoint + "/config/servers", timeout=30)).json()]
print("servers:", *servers)
assert "ctmprod" in servers

run = checked(session.post(endpoint + "/run/order", json={"ctm": "ctmtest", "folder": "SmokeTest"}, timeout=30)).json()
status = checked(session.get(run["statusURI"], timeout=30)).json()
log = checked(session.get(status["statuses"][0]["logURI"], timeout=30)).text
assert "ORDERED JOB:SayHello" in log, log
print("ordered: statusURI and logURI lead back here")

page, pages, outputs = {"nextURI": endpoint + "/run/jobs/status?limit=4&ctm=ctmprod&jobname=*"}, 0, 0
while "nextURI" in page:
    answer = session.get(page["nextURI"], timeout=30)
    page = answer.json()
    checked(answer, 206 if "nextURI" in page else 200)
    for job in page["statuses"]:
        if job["outputURI"].startswith("http"):  # else it says that there is none
            outputs += job["name"] in checked(session.get(job["outputURI"], timeout=30)).text
    pages += 1
print("pages:", pages, "outputs:", outputs)
assert (pages, outputs) == (3, 8)

folder = '{"Python": {"Type": "SimpleFolder", "Job": {"Type": "Job:Command", "Command": "true", "RunAs": "ctm"}}}'
for path, field in (("/build", "definitionsFile"), ("/deploy", "definitionsFile"), ("/run", "jobDefinitionsFile")):
    checked(session.post(endpoint + path, files={field: ("jobs.json", folder, "application/json")}, timeout=30))
print("built, deployed and run")

missing = session.get(endpoint + "/run/job/workbench:99999/output", timeout=30)
print("an error:", missing.status_code, missing.json()["errors"][0]["message"])

# Without a header, as in the vendor's getoutput.py.
checked(requests.post(endpoint + "/session/logout", data={"token": login["token"], "username": user}, timeout=30))
print("logged out")
