"""The Gateway and its route, of overlays that have one: the Gateway API's schemas are in no release of Kubernetes.

The schemas below hold what the project uses of the CRDs (gateway.networking.k8s.io/v1, standard channel, 1.7), with the
CRDs' own bounds, and nothing else: a key that is not here is a slip.
"""

import re

import jsonschema
import yaml

API = "gateway.networking.k8s.io/v1"
STREAM = "/v1/payments/stream"
# GEP-2257. Seconds are all that is used here.
DURATION = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def table(required, **optional):
    """An object of these keys and no other; keys of `optional` that are in `required` must be there."""
    return {"type": "object", "additionalProperties": False, "required": required, "properties": optional}


def listed(items, most):
    return {"type": "array", "minItems": 1, "maxItems": most, "items": items}


def whole(kind, spec):
    metadata = table(["name"], name=NAME, namespace=NAME, labels={"type": "object"}, annotations={"type": "object"})
    top = {"apiVersion": {"const": API}, "kind": {"const": kind}, "metadata": metadata, "spec": spec}
    return table(list(top), **top)


PATH = table(
    ["type", "value"], type={"enum": ["Exact", "PathPrefix"]}, value={"type": "string", "pattern": "^/", "maxLength": 1024}
)
LISTENER = table(
    ["name", "port", "protocol"],
    name=NAME,
    hostname=NAME,
    port=PORT,
    protocol={"enum": ["HTTP", "HTTPS"]},
    tls=table(
        ["mode", "certificateRefs"], mode={"const": "Terminate"}, certificateRefs=listed(table(["name"], name=NAME), 64)
    ),
    allowedRoutes=table([], namespaces=table([], **{"from": {"enum": ["All", "Selector", "Same"]}})),
)
RULE = table(
    ["matches", "backendRefs"],
    matches=listed(table(["path"], path=PATH), 64),
    timeouts=table([], request=DURATION, backendRequest=DURATION),
    retry=table([], attempts={"type": "integer", "minimum": 1}, backoff=DURATION),
    backendRefs=listed(table(["name", "port"], name=NAME, port=PORT), 16),
)
SCHEMAS = {
    "Gateway": whole(
        "Gateway",
        table(["gatewayClassName", "listeners"], gatewayClassName=NAME, listeners=listed(LISTENER, 64)),
    ),
    "HTTPRoute": whole(
        "HTTPRoute",
        table(
            ["parentRefs", "hostnames", "rules"],
            parentRefs=listed(table(["name"], name=NAME, sectionName=NAME), 32),
            hostnames=listed(NAME, 16),
            rules=listed(RULE, 16),
        ),
    ),
}


def milliseconds(duration):
    units = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)(ms|h|m|s)", duration))


def check_gateway(overlay, with_gateway):
    """Payers come in by a Gateway and its route, or by an Ingress; never by both, and never by neither."""
    gateways, routes, ingresses = overlay.of("Gateway"), overlay.of("HTTPRoute"), overlay.of("Ingress")
    counts = (len(gateways), len(routes), len(ingresses))
    overlay.expect(counts == ((1, 1, 0) if with_gateway else (0, 0, 1)), f"Gateways, routes, Ingresses: {counts}")
    before = len(overlay.faults)
    for found in gateways + routes:
        for error in jsonschema.Draft202012Validator(SCHEMAS[found["kind"]]).iter_errors(found):
            overlay.expect(False, f"{found['kind']}: {error.json_path}: {error.message}")
    if counts != (1, 1, 0) or len(overlay.faults) > before:
        return
    listeners = {one["name"]: one for one in gateways[0]["spec"]["listeners"]}
    route = routes[0]["spec"]
    for parent in route["parentRefs"]:
        overlay.expect(parent["name"] == gateways[0]["metadata"]["name"], f"HTTPRoute hangs on {parent['name']}")
        listener = listeners.get(parent.get("sectionName"))
        overlay.expect(listener is not None, f"HTTPRoute hangs on {parent}, listeners are {set(listeners)}")
        hosts = [listener["hostname"]] if listener else []
        overlay.expect(route["hostnames"] == hosts, f"HTTPRoute is for {route['hostnames']}, the listener for {hosts}")
        overlay.expect(listener is None or "tls" in listener, "payers' vouchers come without TLS")
    ports = {s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in overlay.of("Service")}
    # By path: what is more specific than another is taken first, whatever the order.
    by_path = {match["path"]["value"]: rule for rule in route["rules"] for match in rule["matches"]}
    overlay.expect(set(by_path) == {"/v1", STREAM}, f"HTTPRoute has {set(by_path)}")
    for path, rule in by_path.items():
        for backend in rule["backendRefs"]:
            overlay.expect(backend == {"name": "relayer", "port": 8080}, f"HTTPRoute: {path} goes to {backend}")
            overlay.expect(backend["port"] in ports.get(backend["name"], ()), f"HTTPRoute: there is no {backend}")
    check_timeouts(overlay, by_path)


def check_timeouts(overlay, by_path):
    """A stream is not cut off, and a relayer's own word about a payment comes before the Gateway's."""
    stream = by_path.get(STREAM, {}).get("timeouts", {})
    overlay.expect(stream == {"request": "0s"}, f"HTTPRoute: streams end after {stream}")
    # Its name ends in a hash of what it holds.
    files = [found["data"] for found in overlay.of("ConfigMap")]
    config = yaml.safe_load(next(data["config.relayer.yaml"] for data in files if "config.relayer.yaml" in data))
    rule = by_path.get("/v1", {})
    once, all_of_it = (milliseconds(rule.get("timeouts", {}).get(key, "0s")) for key in ("backendRequest", "request"))
    least = config["http"]["request_timeout_ms"]
    overlay.expect(once > least, f"HTTPRoute: patience of {once} ms, a relayer takes {least}")
    overlay.expect(all_of_it >= 2 * once, f"HTTPRoute: no time for another try: {all_of_it} ms")
    overlay.expect(rule.get("retry", {}).get("attempts", 0) >= 1, "HTTPRoute: a relayer that is gone fails its payments")


def gateway_breaks():
    """Ways to break it, as those of k8s_check.py."""

    def rule(number, change):
        return lambda found: change(found["spec"]["rules"][number])

    def listener(change):
        return lambda found: change(found["spec"]["listeners"][0])

    return [
        ("Gateway", "payers", listener(lambda one: one.update(hostName="x")), "hostName"),
        ("Gateway", "payers", listener(lambda one: one.pop("tls")), "without TLS"),
        ("Gateway", "payers", listener(lambda one: one.update(hostname="else.example.com")), "the listener for"),
        ("Gateway", "payers", lambda found: found["metadata"].update(name="payer"), "hangs on"),
        ("Gateway", "payers", lambda found: found.update(kind="GateWay"), "Gateways, routes"),
        ("HTTPRoute", "relayer", rule(1, lambda one: one.update(retries=2)), "retries"),
        ("HTTPRoute", "relayer", rule(1, lambda one: one["timeouts"].update(request="25 s")), "25 s"),
        ("HTTPRoute", "relayer", rule(1, lambda one: one["timeouts"].update(backendRequest="10s")), "patience"),
        ("HTTPRoute", "relayer", rule(1, lambda one: one["timeouts"].update(request="20s")), "another try"),
        ("HTTPRoute", "relayer", rule(0, lambda one: one["timeouts"].update(request="60s")), "streams end"),
        ("HTTPRoute", "relayer", rule(0, lambda one: one["backendRefs"][0].update(port=8081)), "goes to"),
        ("HTTPRoute", "relayer", rule(0, lambda one: one["matches"][0]["path"].update(value="/v1/stream")), "HTTPRoute has"),
        ("HTTPRoute", "relayer", lambda found: found["spec"]["parentRefs"][0].update(sectionName="http"), "listeners are"),
    ]
