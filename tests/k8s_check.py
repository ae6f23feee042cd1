"""What no API schema knows of rendered overlays: that names, keys, ports and variables are those of the project.

    tests/k8s.sh renders, and runs: k8s_check.py dev.yaml prod.yaml prod-gateway.yaml

Each overlay is checked as it is, and then broken on purpose, in each of the ways at the end: a break that is not noticed
is a failure too.
"""

import copy
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

from k8s_gateway import API as GATEWAY_API
from k8s_gateway import check_gateway, gateway_breaks

ROOT = pathlib.Path(__file__).resolve().parent.parent
MILLRACE = pathlib.Path(os.environ.get("MILLRACE_BIN_DIR", ROOT / "target/debug")) / "millrace"
NAME = "app.kubernetes.io/name"
# What must be there before: who runs the cluster makes it (k8s/README.md), dev's k8s/prepare-dev.sh.
PREPARED = {
    "dev": {"millrace-identity": {"payee", "issuer"}, "millrace-payee": {"payee.key"}, "millrace-issuer": {"issuer.key"}},
    "prod": {
        "millrace-identity": {"payee", "issuer"},
        "millrace-payee": {"payee.key"},
        "millrace-redis": {"relayer-password", "settler-password"},
        "millrace-journal": set(),
        "millrace-tls": set(),
    },
}
PREPARED["prod-gateway"] = PREPARED["prod"]
FROM_OUTSIDE = {("ingress-nginx", "relayer", 8080), ("monitoring", "relayer", 8081), ("monitoring", "settler", 8091)}
# Who may talk to whom on which port, and nothing else.
FLOWS = {
    "dev": FROM_OUTSIDE
    | {(service, "redis", 6379) for service in ("relayer", "settler")}
    | {(pod, "issuer", 7070) for pod in ("relayer", "settler", "account")},
    "prod": FROM_OUTSIDE
    | {(service, "192.0.2.0/26", 6380) for service in ("relayer", "settler")}
    | {(service, "192.0.2.64/26", 443) for service in ("relayer", "settler")}
    | {("settler", "192.0.2.128/26", 443)},
}
FLOWS["prod-gateway"] = (FLOWS["prod"] - {("ingress-nginx", "relayer", 8080)}) | {
    ("envoy-gateway-system", "relayer", 8080)
}
# The keys of a ServiceMonitor that are used, of its CRD; another is a slip.
MONITOR_KEYS = {"namespaceSelector", "selector", "jobLabel", "endpoints"}
ENDPOINT_KEYS = {"port", "path", "interval", "scrapeTimeout"}


class Overlay:
    """The objects of one overlay; `faults` is what is wrong with them."""

    def __init__(self, name, objects):
        self.name = name
        self.in_production = name != "dev"
        self.objects = objects
        self.faults = []

    def of(self, *kinds):
        return [found for found in self.objects if found["kind"] in kinds]

    def workloads(self):
        return self.of("Deployment", "StatefulSet", "Job")

    def template(self, name):
        for workload in self.workloads():
            if workload["spec"]["template"]["metadata"]["labels"].get(NAME) == name:
                return workload["spec"]["template"]
        return None

    def expect(self, holds, what):
        if not holds:
            self.faults.append(f"{self.name}: {what}")

    def config_map(self, name):
        for found in self.of("ConfigMap"):
            if found["metadata"]["name"] == name:
                return found["data"]
        return None


def containers(workload):
    spec = workload["spec"]["template"]["spec"]
    return [(f"{workload['kind']}/{workload['metadata']['name']}", spec, one) for one in spec["containers"]]


def check_containers(overlay):
    """Each container has a pinned image, resources, and no rights that it does not need."""
    for workload in overlay.workloads():
        for where, spec, container in containers(workload):
            image = container["image"].rsplit("/", 1)[-1]
            overlay.expect(
                "@sha256:" in image or (":" in image and not image.endswith(":latest")), f"{where}: image {image}"
            )
            resources = container.get("resources", {})
            overlay.expect({"cpu", "memory"} <= set(resources.get("requests", {})), f"{where}: no requests")
            overlay.expect("memory" in resources.get("limits", {}), f"{where}: no limit on memory")
            pod, own = spec.get("securityContext", {}), container.get("securityContext", {})
            overlay.expect(pod.get("runAsNonRoot") is True and pod.get("runAsUser", 0) > 0, f"{where}: may be root")
            overlay.expect(pod.get("seccompProfile", {}).get("type") == "RuntimeDefault", f"{where}: any system call")
            overlay.expect(own.get("allowPrivilegeEscalation") is False, f"{where}: may gain privileges")
            overlay.expect(own.get("readOnlyRootFilesystem") is True, f"{where}: writes to its image")
            overlay.expect(own.get("capabilities") == {"drop": ["ALL"]}, f"{where}: has capabilities")
            overlay.expect(spec.get("automountServiceAccountToken") is False, f"{where}: has a token of the API")
            overlay.expect(workload["kind"] == "Job" or "readinessProbe" in container, f"{where}: no readiness")


def references(workload):
    """Every (kind, object, keys) that pods of the workload need; all keys where `keys` is empty."""
    for _, spec, container in containers(workload):
        for variable in container.get("env", []):
            for kind, ref in variable.get("valueFrom", {}).items():
                yield kind, ref["name"], {ref["key"]}
        for source in container.get("envFrom", []):
            for kind, ref in source.items():
                yield kind, ref["name"], set()
    for volume in workload["spec"]["template"]["spec"].get("volumes", []):
        if "configMap" in volume:
            yield "configMap", volume["configMap"]["name"], set()
        if "secret" in volume:
            yield "secret", volume["secret"]["secretName"], {item["key"] for item in volume["secret"]["items"]}


def check_references(overlay):
    """What pods refer to is rendered, or documented as to be there before; and nothing more is asked for."""
    asked = {}
    for workload in overlay.workloads():
        for kind, name, keys in references(workload):
            rendered = overlay.config_map(name) if kind.startswith("configMap") else None
            if rendered is not None:
                overlay.expect(keys <= set(rendered), f"{name} has no {keys - set(rendered)}")
            else:
                asked.setdefault(name, set()).update(keys)
    for ingress in overlay.of("Ingress"):
        for tls in ingress["spec"].get("tls", []):
            asked.setdefault(tls["secretName"], set())
    for gateway in overlay.of("Gateway"):
        for listener in gateway["spec"]["listeners"]:
            for certificate in listener.get("tls", {}).get("certificateRefs", []):
                asked.setdefault(certificate["name"], set())
    overlay.expect(asked == PREPARED[overlay.name], f"needs {asked}, documented is {PREPARED[overlay.name]}")
    overlay.expect(not overlay.of("Secret"), "a Secret is written out")
    readme = (ROOT / "k8s/README.md").read_text()
    script = (ROOT / "k8s/prepare-dev.sh").read_text()
    for name, keys in asked.items():
        for word in {name} | keys:
            overlay.expect(f"`{word}`" in readme, f"k8s/README.md does not name {word}")
            overlay.expect(overlay.name != "dev" or word in script, f"k8s/prepare-dev.sh does not make {word}")


def values_of(overlay, container, identity):
    """The container's environment as the cluster would set it."""
    values = {}
    for variable in container.get("env", []):
        if "value" in variable:
            values[variable["name"]] = variable["value"]
            continue
        ref = variable["valueFrom"].get("configMapKeyRef", {})
        values[variable["name"]] = {**identity, **(overlay.config_map(ref.get("name")) or {})}.get(ref.get("key"), "")
    return values


def check_configuration(overlay, identity):
    """Each service takes its file with its variables, as the program itself says, and listens where the ports are."""
    for workload in overlay.workloads():
        for where, spec, container in containers(workload):
            service = container["name"]
            if service not in ("relayer", "settler", "issuer"):
                continue
            mounted = next(volume["configMap"]["name"] for volume in spec["volumes"] if volume["name"] == "config")
            text = (overlay.config_map(mounted) or {}).get(f"config.{service}.yaml", "")
            values = values_of(overlay, container, identity)
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(text)
                file.flush()
                command = [MILLRACE, "config", "check", service, "--config", file.name]
                own = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
                checked = subprocess.run(command, env={**own, **values}, capture_output=True, text=True, check=False)
            overlay.expect(checked.returncode == 0, f"{where}: {checked.stderr.strip()}")
            listens = {
                int(value.rsplit(":", 1)[1]) for name, value in values.items() if name.endswith("LISTEN")
            }
            ports = {port["containerPort"] for port in container["ports"]}
            overlay.expect(listens == ports, f"{where}: listens on {listens}, its ports are {ports}")
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            overlay.expect("/tmp" in mounts, f"{where}: no profile can be taken, for want of /tmp")
            for path in (value.removeprefix("file:") for value in values.values() if value.startswith("file:")):
                overlay.expect(any(path.startswith(f"{mount}/") for mount in mounts), f"{where}: nothing mounts {path}")


def peers(rule):
    """The names, namespaces or addresses that a rule's peers stand for."""
    if not rule.get("from", rule.get("to")):
        yield "anyone"
    for peer in rule.get("from", rule.get("to", [])):
        if "ipBlock" in peer:
            yield peer["ipBlock"]["cidr"]
        elif "namespaceSelector" in peer:
            yield peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        else:
            yield peer["podSelector"]["matchLabels"][NAME]


def ports_of(rule):
    return [port["port"] for port in rule.get("ports", [{"port": "any"}])]


def selected(policy, names):
    selector = policy["spec"]["podSelector"]
    if "matchLabels" in selector:
        return {selector["matchLabels"][NAME]}
    for expression in selector.get("matchExpressions", []):
        return set(expression["values"])
    return names


def check_network(overlay):
    """The policies allow the flows above and no other; a flow between pods must be allowed at both ends."""
    names = {workload["spec"]["template"]["metadata"]["labels"][NAME] for workload in overlay.workloads()}
    into, out, refused = set(), set(), False
    for policy in overlay.of("NetworkPolicy"):
        spec = policy["spec"]
        if not spec["podSelector"] and set(spec["policyTypes"]) == {"Ingress", "Egress"}:
            refused = "ingress" not in spec and "egress" not in spec
        for name in selected(policy, names):
            overlay.expect(name in names, f"{policy['metadata']['name']}: no pod is called {name}")
            for rule in spec.get("ingress", []):
                into |= {(peer, name, port) for peer in peers(rule) for port in ports_of(rule)}
            for rule in spec.get("egress", []):
                out |= {(name, peer, port) for peer in peers(rule) for port in ports_of(rule)}
    overlay.expect(refused, "no policy refuses all else")
    overlay.expect({(name, "kube-system", 53) for name in names} <= out, "not all can look up names")
    out = {flow for flow in out if flow[1] != "kube-system"}
    inner = {flow for flow in into if flow[0] in names}
    overlay.expect(inner == {flow for flow in out if flow[1] in names}, f"one end only: {inner ^ out}")
    overlay.expect(into | out == FLOWS[overlay.name], f"flows: {(into | out) ^ FLOWS[overlay.name]}")
    ports = {port["containerPort"] for w in overlay.workloads() for _, _, c in containers(w) for port in c.get("ports", [])}
    overlay.expect({port for _, _, port in into} <= ports, f"a port that nobody listens on: {into}")
    endpoints = next((m["data"] for m in overlay.of("ConfigMap") if "redis_url" in m["data"]), {})
    for key in ("redis_url", "issuer_url"):
        port = int(re.search(r":(\d+)", endpoints[key].split("//", 1)[1]).group(1))
        for service in ("relayer", "settler"):
            overlay.expect(any(f[0] == service and f[2] == port for f in out), f"{service} cannot reach {key} :{port}")


def check_selectors(overlay):
    """Services, budgets, autoscaler, ingress and monitor all find what they are for."""
    named = {}
    for service in overlay.of("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        template = overlay.template(spec["selector"][NAME])
        overlay.expect(template is not None, f"Service/{name} selects nothing")
        ports = {p["name"]: p["containerPort"] for c in (template or {"spec": {"containers": []}})["spec"]["containers"] for p in c["ports"]}
        for port in spec["ports"]:
            overlay.expect(ports.get(port["targetPort"]) == port["port"], f"Service/{name}: {port}")
        named[name] = {port["name"] for port in spec["ports"]}
    for budget in overlay.of("PodDisruptionBudget"):
        overlay.expect(
            overlay.template(budget["spec"]["selector"]["matchLabels"][NAME]) is not None,
            f"PodDisruptionBudget/{budget['metadata']['name']} selects nothing",
        )
    budgets = {budget["metadata"]["name"] for budget in overlay.of("PodDisruptionBudget")}
    overlay.expect(budgets == {"relayer", "settler"}, f"budgets: {budgets}")
    for ingress in overlay.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                overlay.expect(backend["port"]["name"] in named.get(backend["name"], ()), f"Ingress: {backend}")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        for workload in overlay.workloads():
            for where, _, container in containers(workload):
                get = container.get(probe, {}).get("httpGet")
                ports = {port["name"] for port in container.get("ports", [])}
                overlay.expect(get is None or get["port"] in ports, f"{where}: {probe} asks {get}")


def check_scaling(overlay):
    """Load brings more relayers, by CPU and by a gauge that relayers have and the adapter hands on."""
    scalers = overlay.of("HorizontalPodAutoscaler")
    overlay.expect(len(scalers) == overlay.in_production, f"{len(scalers)} autoscalers")
    relayer = next(d for d in overlay.of("Deployment") if d["metadata"]["name"] == "relayer")
    overlay.expect(("replicas" in relayer["spec"]) == (not scalers), "who says how many relayers there are?")
    # Held to what relayers show by a test of its own (tests/tests/seeing/names.rs).
    metrics_page = (ROOT / "docs/METRICS.md").read_text()
    adapter = yaml.safe_load((ROOT / "k8s/prometheus-adapter.yaml").read_text())
    series = [rule["seriesQuery"].split("{")[0] for rule in adapter["rules"]["custom"]]
    for scaler in scalers:
        metrics = {metric["type"]: metric for metric in scaler["spec"]["metrics"]}
        overlay.expect(set(metrics) == {"Resource", "Pods"}, f"autoscaler: {set(metrics)}")
        gauge = metrics["Pods"]["pods"]["metric"]["name"]
        overlay.expect(f"| `{gauge}` | gauge |" in metrics_page, f"relayers have no {gauge}")
        overlay.expect(gauge in series, f"prometheus-adapter.yaml has no {gauge}")
        overlay.expect(scaler["spec"]["scaleTargetRef"]["name"] == "relayer", "what is scaled is no relayer")


def check_monitor(overlay):
    """The kept minimum of the CRD, as the operator's schemas are in no API: keys, and that the ports exist."""
    monitors = overlay.of("ServiceMonitor")
    overlay.expect(len(monitors) == overlay.in_production, f"{len(monitors)} ServiceMonitors")
    for monitor in monitors:
        spec = monitor["spec"]
        overlay.expect(monitor["apiVersion"] == "monitoring.coreos.com/v1", "ServiceMonitor of another API")
        overlay.expect(set(spec) <= MONITOR_KEYS, f"ServiceMonitor: {set(spec)}")
        wanted = spec["selector"]["matchLabels"].items()
        found = [s for s in overlay.of("Service") if wanted <= s["metadata"].get("labels", {}).items()]
        overlay.expect(len(found) == 2, f"ServiceMonitor finds {len(found)} Services")
        for endpoint in spec["endpoints"]:
            overlay.expect(set(endpoint) <= ENDPOINT_KEYS, f"ServiceMonitor: {set(endpoint)}")
            for service in found:
                ports = {port["name"] for port in service["spec"]["ports"]}
                overlay.expect(endpoint["port"] in ports, f"{service['metadata']['name']} has no {endpoint['port']}")
        overlay.expect(spec["namespaceSelector"]["matchNames"] == ["millrace"], "ServiceMonitor looks elsewhere")
    known = {"monitoring.coreos.com/v1", GATEWAY_API, "networking.k8s.io/v1", "apps/v1", "autoscaling/v2", "policy/v1", "batch/v1", "v1"}
    for found in overlay.objects:
        overlay.expect(found["apiVersion"] in known, f"{found['apiVersion']}: no schema was asked")


def check(name, objects, identity):
    overlay = Overlay(name, objects)
    check_containers(overlay)
    check_references(overlay)
    check_configuration(overlay, identity)
    check_network(overlay)
    check_selectors(overlay)
    check_scaling(overlay)
    check_monitor(overlay)
    check_gateway(overlay, name == "prod-gateway")
    return overlay.faults


def keys():
    """Fresh public keys, as the cluster's ConfigMap millrace-identity would have them."""
    with tempfile.TemporaryDirectory() as directory:
        made = {}
        for name in ("payee", "issuer"):
            path = f"{directory}/{name}.key"
            subprocess.run([MILLRACE, "keys", "new", path], check=True, capture_output=True)
            shown = subprocess.run([MILLRACE, "keys", "show", path], check=True, capture_output=True, text=True)
            made[name] = shown.stdout.strip()
        return made


def breaks(name):
    """Ways to break an overlay, each with the object that it changes and a word of the fault that must be found."""

    def container(change):
        return lambda found: change(found["spec"]["template"]["spec"]["containers"][0])

    def variable(name, value):
        def change(one):
            next(v for v in one["env"] if v["name"] == name)["value"] = value

        return container(change)

    def rename(one):
        one["env"][0]["name"] = "MILLRACE_RELAYER__LISTENS"

    def other_key(one):
        ref = next(v for v in one["env"] if v["name"] == "MILLRACE_RELAYER__PAYEE")["valueFrom"]
        ref["configMapKeyRef"]["key"] = "payees"

    return [
        ("Deployment", "relayer", container(lambda one: one.update(image="millrace-relayer:latest")), "image"),
        ("Deployment", "relayer", container(lambda one: one.update(image="millrace-relayer")), "image"),
        ("Deployment", "settler", container(lambda one: one.pop("resources")), "requests"),
        ("Deployment", "settler", container(lambda one: one["securityContext"].pop("capabilities")), "capabilities"),
        ("Deployment", "relayer", container(rename), "MILLRACE_RELAYER__LISTENS"),
        ("Deployment", "relayer", container(other_key), "documented"),
        ("Deployment", "relayer", variable("MILLRACE_RELAYER__LISTEN", "0.0.0.0:8090"), "listens"),
        ("Deployment", "settler", variable("MILLRACE_SETTLER__PAYEE_KEY", "file:/run/payee.key"), "mounts"),
        ("Deployment", "relayer", container(lambda one: one["volumeMounts"].pop()), "/tmp"),
        ("Service", "relayer", lambda found: found["spec"]["ports"][0].update(targetPort="admin"), "Service/relayer"),
        ("Service", "settler", lambda found: found["spec"]["selector"].update({NAME: "setler"}), "selects nothing"),
        ("NetworkPolicy", "nothing-else", lambda found: found["spec"].update(ingress=[{}]), "refuses all else"),
        (
            "NetworkPolicy",
            "ingress-to-relayers",
            lambda found: found["spec"]["ingress"][0]["ports"][0].update(port=8082),
            "flows",
        ),
        (
            "NetworkPolicy",
            "services-to-redis-and-issuer",
            lambda found: found["spec"]["egress"][0]["ports"][0].update(port=6381),
            "redis_url",
        ),
    ] + (gateway_breaks() if name == "prod-gateway" else [])


def main(paths):
    identity = keys()
    for path in map(pathlib.Path, paths):
        name, objects = path.stem, list(yaml.safe_load_all(path.read_text()))
        faults = check(name, objects, identity)
        if faults:
            sys.exit("\n".join(faults))
        for kind, which, change, word in breaks(name):
            broken = copy.deepcopy(objects)
            change(next(o for o in broken if (o["kind"], o["metadata"]["name"]) == (kind, which)))
            if not any(word in fault for fault in check(name, broken, identity)):
                sys.exit(f"{name}: a {kind}/{which} that is broken on purpose was not noticed ({word})")
        print(f"k8s: {name}, {len(objects)} objects are as they should be, {len(breaks(name))} breaks are noticed")


main(sys.argv[1:])
