"""What tests/api.sh checks besides schemathesis.

    api_check.py WORK               descriptions and the commands of docs/API.md, against the stack in WORK/stack;
                                    writes the descriptions to WORK
    api_check.py --seen FILE        whether every route was reached with what it takes
    api_check.py --spoil HOW FILE   writes the relayer's description with a slip in it
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

from openapi_spec_validator import validate

ROOT = pathlib.Path(__file__).resolve().parent.parent
SERVICES = {"relayer": os.environ["API_RELAYER"], "issuer": os.environ["API_ISSUER"]}


# Codes that take a fault, a race, or limits that this stack does not have: tests/tests/codes.rs shows each of them, and
# the tests of issuer/tests those that are the issuer's.
NEED_MORE = {
    "internal",
    "outcome_unknown",
    "overloaded",
    "rate_limited",
    "store_unavailable",
    "issuer_unavailable",
    "missing_siblings",
    "step_too_large",
    "channel_closing",
}


def served(service):
    with urllib.request.urlopen(f"{SERVICES[service]}/openapi.json", timeout=20) as answer:
        assert answer.headers["content-type"] == "application/json"
        return json.load(answer)


def check_descriptions(work):
    for service in SERVICES:
        description = served(service)
        validate(description)
        kept = json.loads((ROOT / f"docs/schema/{service}.openapi.json").read_text())
        assert description == kept, f"{service}: what is served is not docs/schema/{service}.openapi.json"
        # From a file, and not from where it is served: schemathesis would leave out that route.
        pathlib.Path(work, f"{service}.json").write_text(json.dumps(description))


def check_page(work):
    """Runs the commands of the page in the order of the page, in one shell; each must succeed, or be refused as it says."""
    page = (ROOT / "docs/API.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 15, f"the page has only {len(blocks)} commands"
    # The page is for a stack at the default ports, and in the directory where it was started.
    script = [
        "set -eu",
        "curl() { command curl --silent --show-error --fail-with-body --max-time 20 \"$@\"; }",
    ]
    for number, block in enumerate(blocks):
        block = block.replace("http://127.0.0.1:7710", SERVICES["relayer"])
        block = block.replace("http://127.0.0.1:7700", SERVICES["issuer"])
        block = block.replace(".millrace/dev/", "stack/")
        script.append(f"echo; echo '--- {number}'")
        refused = re.search(r"^# .*refused: ?(\w+)", block, re.MULTILINE)
        if refused:
            # curl ends with 22 on an answer from 400 on; what it is must be what the comment says.
            script.append(f"answer=$({block}) && {{ echo 'it was not refused' >&2; exit 1; }}")
            script.append(f"echo \"$answer\"; echo \"$answer\" | grep -q '\"code\":\"{refused[1]}\"'")
        else:
            script.append(block)
    environment = {
        **os.environ,
        "MILLRACE_ISSUER_URL": SERVICES["issuer"],
        "MILLRACE_RELAYER_URL": SERVICES["relayer"],
    }
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", "\n".join(script)],
        cwd=work, env=environment, capture_output=True, text=True, timeout=120,
    )
    told = "\n".join(line[:300] for line in (run.stdout + run.stderr).splitlines()[-30:])
    assert run.returncode == 0, f"docs/API.md, the last command shown:\n{told}"
    assert '"outcome":"accepted"' in run.stdout, run.stdout


def check_seen(file):
    seen = {tuple(line.split()) for line in pathlib.Path(file).read_text().splitlines()}
    all_but_codes = {line[:4] for line in seen}
    for service in SERVICES:
        for path, methods in served(service)["paths"].items():
            for method, operation in methods.items():
                good = [status for status in operation["responses"] if status.startswith("2")]
                for status in good:
                    assert (service, method.upper(), path, status) in all_but_codes, f"{service}: no {status} of {method} {path} was seen"
    codes = {line[4] for line in seen if len(line) == 5}
    described = {
        code
        for service in SERVICES
        for methods in served(service)["paths"].values()
        for operation in methods.values()
        for answer in operation["responses"].values()
        for code in answer.get("x-codes", [])
    }
    missed = described - codes - NEED_MORE
    assert not missed, f"described, and not seen: {missed}"
    print(f"{len(seen)} kinds of answers, with these codes: {', '.join(sorted(codes))}")


def spoil(how, file):
    description = served("relayer")
    if how == "no-status":
        del description["paths"]["/v1/channels/{id}"]["get"]["responses"]["400"]
    else:
        description["components"]["schemas"]["Problem"]["properties"]["title"] = {"type": "integer"}
    pathlib.Path(file).write_text(json.dumps(description))


if sys.argv[1] == "--seen":
    check_seen(sys.argv[2])
elif sys.argv[1] == "--spoil":
    spoil(*sys.argv[2:])
else:
    check_descriptions(sys.argv[1])
    check_page(sys.argv[1])
